"""Differences of extensions, and of objects of every kind that has no room of its own."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from dbkeep.plan import Change, Risk
from dbkeep.postgresql import statements
from dbkeep.postgresql.change import MANAGED, change
from dbkeep.postgresql.inspect import Live
from dbkeep.postgresql.inspect.others import LiveExtension, LiveObject
from dbkeep.postgresql.models import Declared

# Kinds whose objects use functions and relations, and are dropped before them. All other kinds are used by them.
USING_OTHERS = (
    "event trigger", "trigger", "rule", "subscription", "publication", "statistics object", "user mapping",
    "transform", "cast", "operator class", "operator family", "operator", "access method",
)  # fmt: skip
# Parts of a relation: dropping one loses no data, but waits for those who use the relation.
PARTS_OF_RELATIONS = ("rule", "trigger")
UNOWNED = (*PARTS_OF_RELATIONS, "user mapping", "cast", "transform", "access method")


def extensions(declared: Declared, live: Live) -> Iterator[Change]:
    """Declared extensions that are missing, in another schema, or not of the version that the server would install."""
    for name, schema in declared.scope.extensions.items():
        have = live.others.extensions.get(name)
        if have is None or (have.version is None and have.default is None):
            yield change(
                "extension", name, "create", after={"schema": schema}, database=MANAGED,
                refused="the server has no files of it: install the package that holds them",
            )  # fmt: skip
        elif have.version is None:
            yield change(
                "extension", name, "create", statements.create_extension(name, schema),
                after={"version": have.default, "schema": schema}, database=MANAGED,
            )  # fmt: skip
        else:
            yield from _extension(name, schema, have)


def _extension(name: str, schema: str, have: LiveExtension) -> Iterator[Change]:
    if have.schema != schema:
        yield change(
            "extension", name, "move", statements.move_extension(name, schema), risk=Risk.LOCKING,
            before={"schema": have.schema}, after={"schema": schema}, database=MANAGED,
        )  # fmt: skip
    if have.default not in (None, have.version):
        yield change(
            "extension", name, "update", statements.update_extension(name), risk=Risk.LOCKING,
            before={"version": have.version}, after={"version": have.default}, database=MANAGED,
        )  # fmt: skip


def owners(declared: Declared, live: Live) -> Iterator[Change]:
    """Objects in managed schemas that belong to somebody else, and objects elsewhere that belong to managed roles."""
    for found in sorted(live.others.objects):
        if found.name in declared.scope.other_objects and found.in_schema and found.owner != declared.scope.owner:
            yield _owner(found, declared.scope.owner)
    named = {found.name for found in live.others.objects}
    for found in sorted(live.others.owned_elsewhere):
        if found.name not in named:
            yield _owner(found, live.superuser)


def _owner(found: LiveObject, owner: str) -> Change:
    return change(
        "owner", found.name, "change owner", statements.set_owner(*_ddl(found), owner), risk=Risk.LOCKING,
        before={"owner": found.owner}, after={"owner": owner}, database=MANAGED,
    )  # fmt: skip


def missing(declared: Declared, live: Live) -> Iterator[Change]:
    """Declared objects that are not there although every migration is applied."""
    if any(migration.id not in live.migrations for migration in declared.migrations):
        return
    for name in sorted(set(declared.scope.other_objects) - {found.name for found in live.others.objects}):
        yield change(
            "object", name, "missing", database=MANAGED,
            refused="every migration is applied and it is not there: add a migration that makes it",
        )  # fmt: skip


def undeclared(declared: Declared, live: Live, *, first: bool) -> Iterator[Change]:
    """Objects and extensions that nothing declares: those to drop before functions and relations, or those after."""
    for found in sorted(live.others.objects, key=lambda one: one.number, reverse=True):
        if found.name in declared.scope.other_objects or (found.kind in USING_OTHERS) is not first:
            continue
        kind, target = _ddl(found)
        yield change(
            found.kind, found.identity, "drop: not declared", statements.drop(kind, target),
            before={"owner": found.owner} if found.kind not in UNOWNED else None, database=MANAGED,
            risk=Risk.LOCKING if found.kind in PARTS_OF_RELATIONS else Risk.DESTRUCTIVE,
            # A subscription may have to say goodbye to its publisher, which no transaction can take back.
            transaction=found.kind != "subscription",
        )  # fmt: skip
    for name, extension in sorted(live.others.extensions.items()):
        if not first and extension.version is not None and name not in declared.scope.extensions:
            yield change(
                "extension", name, "drop: not declared", statements.drop("EXTENSION", sql.Identifier(name)),
                before={"version": extension.version, "schema": extension.schema}, risk=Risk.DESTRUCTIVE,
                database=MANAGED,
            )  # fmt: skip


def _ddl(found: LiveObject) -> tuple[str, sql.Composable]:
    """The object's kind and name as DDL spells them, where pg_identify_object does it in another way."""
    kind = {"foreign-data wrapper": "foreign data wrapper", "statistics object": "statistics"}.get(
        found.kind, found.kind
    )
    identity = found.identity
    if found.kind == "user mapping":
        identity = "FOR " + identity.replace(" on server ", " SERVER ")
    if found.kind == "transform":
        identity = "FOR " + identity.removeprefix("for ").replace(" on language ", " LANGUAGE ")
    return kind.upper(), statements.written(identity)
