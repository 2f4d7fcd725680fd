"""Differences of privileges: on databases, schemas, relations, columns and functions, and the default ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from psycopg import sql

from dbkeep.errors import UsageError
from dbkeep.plan import Change
from dbkeep.postgresql import statements
from dbkeep.postgresql.change import MANAGED, change
from dbkeep.postgresql.connect import MAINTENANCE
from dbkeep.postgresql.inspect import DefaultPrivilege, Grant, Live
from dbkeep.postgresql.models import MIGRATION_SCHEMA, Allowed, Declared, Grants
from dbkeep.postgresql.statements import Statement

# Kinds of objects that all databases share.
SHARED = ("DATABASE", "PARAMETER", "TABLESPACE")
Group = tuple[str, str, str, str, str]


def grants(declared: Declared, live: Live, recreated: Collection[str]) -> tuple[list[Change], list[Change]]:
    """Return the revokes of what is not declared and the grants of what is missing.

    `recreated` objects get their grants from the change that creates them.

    Raises UsageError when a grant is declared on a function that this version of the server does not have.
    """
    wanted = frozenset(grant for grant in _declared(declared, live, recreated))
    have = frozenset(grant for grant in live.grants if f"{grant.schema}.{grant.name}" not in recreated)
    missing = (wanted - have) | (wanted & live.indirect) | live.lacking
    return list(_changes(have - wanted, "revoke", declared, live)), list(_changes(missing, "grant", declared, live))


def default_privileges(declared: Declared, live: Live) -> Iterator[Change]:
    """What owners give away on objects they make: nothing, least of all EXECUTE to PUBLIC."""
    implicit = {
        DefaultPrivilege(creator, "", kind, privilege, "PUBLIC")
        for creator in (declared.scope.owner, declared.scope.definer)
        for kind, privilege in (("f", "EXECUTE"), ("T", "USAGE"))
        if creator not in live.roles
    }
    for privilege in sorted(live.default_privileges | implicit):
        where = f" in {privilege.schema}" if privilege.schema else ""
        kind = statements.OBJECT_TYPES[privilege.kind].lower()
        yield change(
            "default privilege", f"{privilege.creator}: {kind}{where}",
            f"revoke {privilege.privilege} from {privilege.grantee}", statements.revoke_default(privilege),
            before={"privilege": privilege.privilege, "grantee": privilege.grantee}, database=MANAGED,
        )  # fmt: skip


def _declared(declared: Declared, live: Live, recreated: Collection[str]) -> Iterator[Grant]:
    arguments: dict[str, list[str]] = defaultdict(list)
    for function in live.functions:
        arguments[function.name].append(function.arguments)
    for role, attributes in declared.roles.items():
        granted = attributes.grants
        for privilege in granted.database:
            yield Grant("DATABASE", "", declared.scope.database, "", privilege, role)
        for schema, privileges in granted.schemas.items():
            for usage in privileges:
                yield Grant("SCHEMA", "", schema, "", usage, role)
        for relation, allowed in granted.relations.items():
            if relation not in recreated:
                yield from _relation(relation, allowed, role)
        yield from _other_kinds(role, granted)
        for name in granted.functions:
            if name in recreated:
                continue
            if name not in arguments:
                raise UsageError(f"{declared.where_granted(role, name)}: function {name} does not exist on this server")
            for types in arguments[name]:
                schema, bare = name.split(".", 1)
                yield Grant("FUNCTION", schema, bare, types, "EXECUTE", role)


def _other_kinds(role: str, granted: Grants) -> Iterator[Grant]:
    for sequence, privileges in granted.sequences.items():
        schema, bare = sequence.split(".", 1)
        for privilege in privileges:
            yield Grant("SEQUENCE", schema, bare, "", privilege, role)
    for of_type in granted.types:
        schema, bare = of_type.split(".", 1)
        yield Grant("TYPE", schema, bare, "", "USAGE", role)
    for kind, names, privilege in (
        ("LANGUAGE", granted.languages, "USAGE"),
        ("FOREIGN DATA WRAPPER", granted.foreign_data_wrappers, "USAGE"),
        ("FOREIGN SERVER", granted.foreign_servers, "USAGE"),
        ("TABLESPACE", granted.tablespaces, "CREATE"),
    ):
        for name in names:
            yield Grant(kind, "", name, "", privilege, role)
    for name, settings in granted.parameters.items():
        for setting in settings:
            yield Grant("PARAMETER", "", name, "", setting, role)


def _relation(relation: str, allowed: Allowed, role: str) -> Iterator[Grant]:
    schema, name = relation.split(".", 1)
    for privilege, columns in allowed.items():
        if columns == "all":
            yield Grant("TABLE", schema, name, "", privilege, role)
        else:
            for column in columns:
                yield Grant("COLUMN", schema, name, column, privilege, role)


def _changes(differing: Collection[Grant], verb: str, declared: Declared, live: Live) -> Iterator[Change]:
    """One change for each object and grantee."""
    groups: dict[Group, list[Grant]] = defaultdict(list)
    for grant in differing:
        kind = "TABLE" if grant.kind == "COLUMN" else grant.kind
        part = "" if grant.kind == "COLUMN" else grant.part
        groups[kind, grant.schema, grant.name, part, grant.grantee].append(grant)
    for (kind, schema, name, part, grantee), members in sorted(groups.items()):
        target = _target(kind, schema, name, part)
        run: list[Statement] = []
        if verb == "grant":
            run.append(statements.grant(_privileges(members), kind, target, grantee))
        else:
            # A privilege that stays loses only its grant option.
            kept = [m for m in members if m.grantable and _plain(m) not in differing]
            gone = [m for m in members if m not in kept and not (m.grantable and _plain(m) in members)]
            if kept:
                run.append(statements.revoke(_privileges(kept), kind, target, grantee, only_option=True))
            if gone:
                run.append(statements.revoke(_privileges(gone), kind, target, grantee, only_option=False))
        listed = [_shown(member) for member in sorted(members)]
        yield change(
            "grant", f"{kind.lower()} {_name(schema, name, part)}: {grantee}", f"{verb} {', '.join(listed)}", *run,
            before=listed if verb == "revoke" else None, after=listed if verb == "grant" else None,
            database=MAINTENANCE if kind in SHARED else MANAGED,
            where=declared.where_granted(grantee, _name(schema, name, "")),
            refused=_impossible(kind, f"{schema}.{name}", members, declared, live) if verb == "grant" else None,
        )  # fmt: skip


def _impossible(kind: str, relation: str, members: Collection[Grant], declared: Declared, live: Live) -> str | None:
    """Say why a grant on a relation cannot work, where that is known before any change runs."""
    pending = any(migration.id not in live.migrations for migration in declared.migrations)
    if kind != "TABLE" or (pending and not relation.startswith("pg_catalog.")):
        return None
    there = live.columns.get(relation)
    if there is None and (relation in declared.tables or relation.startswith(f"{MIGRATION_SCHEMA}.")):
        return None  # the change of the table says so, and the record of migrations is made before
    absent = sorted(member.part for member in members if member.part and member.part not in (there or ()))
    where = declared.where_granted(next(iter(members)).grantee, relation)
    if there is None:
        return f"{where}: relation {relation} does not exist"
    return f"{where}: {relation} has no column {', '.join(absent)}" if absent else None


def _privileges(members: Iterable[Grant]) -> sql.Composable:
    columns: dict[str, list[str]] = defaultdict(list)
    for member in sorted(members):
        key = f"{member.privilege}{' columns' if member.kind == 'COLUMN' else ''}"
        columns[key].append(member.part if member.kind == "COLUMN" else "")
    return statements.privileges(
        [(key.removesuffix(" columns"), parts if key.endswith(" columns") else ()) for key, parts in columns.items()]
    )


def _target(kind: str, schema: str, name: str, part: str) -> sql.Composable:
    if kind in ("FUNCTION", "PROCEDURE"):
        return statements.signature(f"{schema}.{name}", part)
    if kind == "LARGE OBJECT":
        return statements.written(name)
    return sql.Identifier(schema, name) if schema else sql.Identifier(name)


def _name(schema: str, name: str, part: str) -> str:
    base = f"{schema}.{name}" if schema else name
    return f"{base}({part})" if part else base


def _plain(grant: Grant) -> Grant:
    return Grant(grant.kind, grant.schema, grant.name, grant.part, grant.privilege, grant.grantee)


def _shown(grant: Grant) -> str:
    column = f" ({grant.part})" if grant.kind == "COLUMN" else ""
    return f"{grant.privilege}{column}{' with grant option' if grant.grantable else ''}"
