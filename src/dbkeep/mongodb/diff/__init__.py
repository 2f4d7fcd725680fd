"""How declared and live differ: pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dbkeep.mongodb import normalise, statements
from dbkeep.mongodb.diff.access import role_changes, undeclared_access, user_changes
from dbkeep.mongodb.diff.collections import collection_changes, view_changes
from dbkeep.mongodb.diff.members import member_changes
from dbkeep.mongodb.diff.migrations import migration_changes
from dbkeep.mongodb.findings import Findings
from dbkeep.mongodb.inspect import Live, LiveParameter
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.models import Declared, Parameter
from dbkeep.mongodb.statements import change
from dbkeep.plan import Change, Risk


def diff(
    declared: Declared, live: Live, findings: Findings, secrets: Mapping[str, str], *, warn: bool = False
) -> list[Change]:
    """Return the changes that turn `live` into `declared`: what is missing first, what is undeclared last.

    Migrations come when everything that they may need is there, and before a collection goes that they may read. What
    documents stand in the way of waits for those that are pending.
    """
    migrations = list(migration_changes(declared, live.migrations, live.collections))
    pending = tuple(change.target for change in migrations if not change.refused)
    return [
        *_server(declared, live),
        *collection_changes(declared, live, findings, pending=pending, warn=warn),
        *view_changes(declared, live, findings),
        *role_changes(declared, live, findings),
        *user_changes(declared, live, secrets),
        *undeclared_access(declared, live),
        *migrations,
        *_undeclared_collections(declared, live),
        # A member that copies data starts again when a collection is renamed or dropped meanwhile.
        *member_changes(declared.members, live.members),
    ]


def _server(declared: Declared, live: Live) -> Iterator[Change]:
    level = declared.server.profiling_level
    if live.profiling_level != level:
        commands = [statements.set_profiling_level(declared.database, level)]
        summary = f"set level {level}"
        yield change("profiler", declared.database, summary, commands, before=live.profiling_level, after=level)
    for member, present in live.parameters.items():
        for parameter in declared.parameters:
            yield from _parameter(member, parameter, present.get(parameter.name))


def _parameter(member: str, wanted: Parameter, live: LiveParameter | None) -> Iterator[Change]:
    if live is not None and normalise.exact(live.value) == normalise.exact(wanted.value):
        return
    refused = None
    if live is None:
        refused = "this version of the server does not have it; correct mongo/server.yml"
    elif not live.settable:
        refused = "it can only be set when the server starts; move it to roles/mongodb/templates/mongod.conf.j2"
    commands = [statements.set_parameter(wanted.name, wanted.value, member)]
    value = ", ".join(wanted.value) if isinstance(wanted.value, tuple) else wanted.value
    summary, before = f"set {value}", live.value if live else None
    target = f"{member} {wanted.name}"
    yield change("parameter", target, summary, commands, before=before, after=wanted.value, refused=refused)


def _undeclared_collections(declared: Declared, live: Live) -> Iterator[Change]:
    names = {collection.name for collection in declared.collections} | {view.name for view in declared.views}
    names.add(RECORDS)
    for name, present in live.collections.items():
        if name not in names and not (name == statements.STORED_FUNCTIONS and present.empty):
            content = "" if present.empty else " and holds documents"
            commands = [statements.drop_collection(declared.database, name)]
            target, summary = f"{declared.database}.{name}", f"drop, it is not declared{content}"
            yield change(present.type, target, summary, commands, before=present.options, risk=Risk.DESTRUCTIVE)
