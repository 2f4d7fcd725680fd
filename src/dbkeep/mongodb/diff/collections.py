"""How declared and live collections, their options and validators, and the views on them differ: pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dbkeep.mongodb import normalise, statements
from dbkeep.mongodb.diff.indexes import index_changes
from dbkeep.mongodb.findings import Findings, Offenders
from dbkeep.mongodb.inspect import Live, LiveCollection
from dbkeep.mongodb.models import Collection, Declared, View
from dbkeep.mongodb.normalise import exact
from dbkeep.mongodb.statements import Document, change
from dbkeep.plan import Change, Risk

# The options that collMod changes without making the collection again; the rest is fixed when it is made.
_IN_PLACE = frozenset({"changeStreamPreAndPostImages", "expireAfterSeconds", "size", "max"})

# Less of these, and the server removes documents that were kept until now.
_KEEPS_LESS = frozenset({"expireAfterSeconds", "size", "max"})


def collection_changes(
    declared: Declared, live: Live, findings: Findings, *, pending: Sequence[str] = (), warn: bool
) -> Iterator[Change]:
    """Yield what makes the collections, their validators and indexes as declared.

    What documents break is refused, or waits for the `pending` migrations, which may mend them. With `warn` a validator
    is set as a warning then.
    """
    migrations = f"migration {', '.join(pending)} first" if pending else None
    database = declared.database
    for collection in declared.collections:
        target = f"{database}.{collection.name}"
        present = live.collections.get(collection.name)
        if present is not None and present.type != collection.type:
            yield _other_type(target, present, collection.type)
            continue
        if present is None:
            yield _creation(database, collection, findings)
        else:
            yield from _option_changes(database, collection, present)
            yield from _validator_changes(database, collection, present, findings, migrations, warn=warn)
        if not collection.time_series:
            yield from index_changes(database, collection, present, findings, migrations)
    for name, offenders in findings.breaking.items():
        yield from _documents(f"{database}.{name}", offenders)


def _creation(database: str, collection: Collection, findings: Findings) -> Change:
    commands = [statements.create_collection(database, collection)]
    names = [("collection", collection.name), ("validator", collection.name)]
    reasons = [findings.rejected[name] for name in names if name in findings.rejected]
    target, summary = f"{database}.{collection.name}", "create with its validator"
    refused = "; ".join(reasons) or None
    return change("collection", target, summary, commands, after=commands[0].document, refused=refused)


def _option_changes(database: str, collection: Collection, live: LiveCollection) -> Iterator[Change]:
    target = f"{database}.{collection.name}"
    wanted, present = _options(statements.collection_options(collection)), _options(live.options)
    different = sorted(
        name for name in wanted.keys() | present.keys() if exact(wanted.get(name)) != exact(present.get(name))
    )
    if not different:
        return
    before, after = ({name: side.get(name) for name in different} for side in (present, wanted))
    both_capped = "capped" in wanted and "capped" in present
    fixed = [name for name in different if name not in _IN_PLACE or (name in {"size", "max"} and not both_capped)]
    if fixed:
        undeclared = [name for name in fixed if name not in wanted]
        summary = f"has undeclared options {', '.join(undeclared)}" if undeclared else f"has other {', '.join(fixed)}"
        reason = "these options cannot be changed in place; copy the documents into a new collection"
        yield change("collection", target, summary, [], before=before, after=after, refused=reason)
        return
    less = [name for name in different if name in _KEEPS_LESS and _keeps_less(present.get(name), wanted.get(name))]
    summary = f"set {', '.join(different)}" + ("; the server then removes documents" if less else "")
    commands = [statements.change_collection(database, collection.name, _collmod(name, after)) for name in different]
    risk = Risk.DESTRUCTIVE if less else Risk.SAFE
    yield change("collection", target, summary, commands, before=before, after=after, risk=risk)


def _options(options: Document) -> Document:
    """Return a collection's options but its validation, without what the server adds."""
    kept = {name: value for name, value in options.items() if not name.startswith("validat")}
    if "collation" in kept:
        kept["collation"] = normalise.collation(kept["collation"])
    if "clusteredIndex" in kept:
        kept["clusteredIndex"] = {"key": {"_id": 1}, "unique": True}
    if "timeseries" in kept:
        kept["timeseries"] = {name: kept["timeseries"].get(name) for name in ("timeField", "metaField", "granularity")}
    return kept


def _keeps_less(before: Any, after: Any) -> bool:
    return after is not None and (before is None or after < before)


def _collmod(name: str, after: Document) -> Document:
    value = after[name]
    if name == "changeStreamPreAndPostImages":
        return {name: value or {"enabled": False}}
    if name == "expireAfterSeconds":
        return {name: "off" if value is None else value}
    return {{"size": "cappedSize", "max": "cappedMax"}[name]: value or 0}


def validation_differs(collection: Collection, live: LiveCollection) -> bool:
    """Return whether the server validates a collection in another way than declared."""
    return not collection.time_series and exact(_validation(live)) != exact(statements.validation(collection))


def _validation(live: LiveCollection) -> Document:
    """The server leaves level and action out where they were never set."""
    return {
        "validator": live.options.get("validator", {}),
        "validationLevel": live.options.get("validationLevel", "strict"),
        "validationAction": live.options.get("validationAction", "error"),
    }


def _validator_changes(
    database: str,
    collection: Collection,
    live: LiveCollection,
    findings: Findings,
    migrations: str | None,
    *,
    warn: bool,
) -> Iterator[Change]:
    if not validation_differs(collection, live):
        return
    target, wanted, present = f"{database}.{collection.name}", statements.validation(collection), _validation(live)
    offenders = findings.violations.get(collection.name, Offenders())
    summary = "set the declared validator, level and action"
    refused, waits_for = findings.rejected.get(("validator", collection.name)), None
    found = offenders.describe("breaks the declared validator", "break the declared validator")
    if offenders and warn:
        wanted = wanted | {"validationAction": "warn"}
        if exact(wanted) == exact(present):
            return
        summary = f"set the declared validator as a warning: {found}"
    elif offenders and not refused and migrations:
        summary, waits_for = f"{summary}: {found}", migrations
    elif offenders and not refused:
        refused = f"{found}; repair them first by a migration, or apply with --warn"
    commands = [statements.change_collection(database, collection.name, wanted)]
    yield change(
        "validator", target, summary, commands, before=present, after=wanted, refused=refused, waits_for=waits_for
    )


def _documents(target: str, offenders: Offenders) -> Iterator[Change]:
    if offenders:
        summary = offenders.describe("breaks the validator that holds", "break the validator that holds")
        refused = "apply changes no document; correct them by a migration"
        yield change("documents", target, summary, [], refused=refused)


def view_differs(view: View, live: LiveCollection | None) -> bool:
    """Return whether a view is missing or shows something else than declared."""
    return live is None or live.type != "view" or _view(live.options) != _view(statements.view_options(view))


def _view(options: Document) -> tuple[Any, ...]:
    pipeline = normalise.exact(options.get("pipeline", []), ordered=True)
    return options.get("viewOn"), pipeline, normalise.collation(options.get("collation"))


def view_changes(declared: Declared, live: Live, findings: Findings) -> Iterator[Change]:
    for view in declared.views:
        present = live.collections.get(view.name)
        target, options = f"{declared.database}.{view.name}", statements.view_options(view)
        refused = findings.rejected.get(("view", view.name))
        if present is not None and present.type != "view":
            yield _other_type(target, present, "view")
        elif present is None:
            commands = [statements.create_view(declared.database, view)]
            yield change("view", target, "create", commands, after=options, refused=refused)
        elif view_differs(view, present):
            commands, summary = [statements.change_view(declared.database, view)], "set the declared pipeline"
            if normalise.collation(present.options.get("collation")) != normalise.collation(view.collation):
                drop = statements.drop_collection(declared.database, view.name)
                commands = [drop, statements.create_view(declared.database, view)]
                summary = "make again with the declared collation"
            yield change("view", target, summary, commands, before=present.options, after=options, refused=refused)


def _other_type(target: str, live: LiveCollection, wanted: str) -> Change:
    return change(
        "view" if wanted == "view" else "collection",
        target,
        f"is a {live.type}, declared as a {wanted}",
        [],
        before=live.type,
        after=wanted,
        refused="its name is taken; rename or drop it by hand",
    )
