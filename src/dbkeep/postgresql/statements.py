"""The SQL of every change, built from composables, and its text for people, which never holds a verifier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from dbkeep.postgresql.inspect import DefaultPrivilege, LiveRole, Membership
from dbkeep.postgresql.models import Migration, Policy, Role, Routine, View

# pg_default_acl.defaclobjtype as ALTER DEFAULT PRIVILEGES spells it.
OBJECT_TYPES: Mapping[str, str] = {
    "r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS", "T": "TYPES", "n": "SCHEMAS", "L": "LARGE OBJECTS",
}  # fmt: skip
# Settings whose items the server quotes one by one (pg_dump's variable_is_guc_list_quote).
LISTS = ("search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries")
ATTRIBUTES: Mapping[str, tuple[str, str]] = {
    "login": ("LOGIN", "NOLOGIN"),
    "inherit": ("INHERIT", "NOINHERIT"),
    "bypass_row_security": ("BYPASSRLS", "NOBYPASSRLS"),
    "superuser": ("SUPERUSER", "NOSUPERUSER"),
    "create_role": ("CREATEROLE", "NOCREATEROLE"),
    "create_database": ("CREATEDB", "NOCREATEDB"),
    "replication": ("REPLICATION", "NOREPLICATION"),
}
# The server must not log a statement that holds a verifier, whatever its logging is set to.
UNLOGGED = sql.SQL(
    "SELECT set_config(name, value, true) FROM (VALUES ('log_statement', 'none'), ('log_min_duration_statement', '-1'),"
    " ('log_min_duration_sample', '-1'), ('log_min_error_statement', 'panic'), ('pgaudit.log', 'none'))"
    " AS v (name, value)"
)


Statement = sql.SQL | sql.Composed


@dataclass(frozen=True, slots=True)
class Operation:
    """Statements that run in one transaction of `database`, or one by one when `transaction` is false.

    `database` is '' for the managed one. `where` is the file and line they come from.
    """

    database: str
    statements: tuple[Statement, ...]
    transaction: bool = True
    where: str = ""

    def text(self) -> str:
        return ";\n".join(statement.as_string(None) for statement in self.statements)


def written(text: str) -> sql.SQL:
    """Return text that the declared files or the server's catalogs hold as SQL."""
    return sql.SQL(text)


def qualified(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


def signature(name: str, arguments: str | None) -> sql.Composable:
    """A function's name, with the types that tell it from others of the name when they are known."""
    return qualified(name) if arguments is None else qualified(name) + written(f"({arguments})")


def create_database(name: str, owner: str) -> tuple[Statement, ...]:
    database = sql.Identifier(name)
    return (
        sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template1").format(database, sql.Identifier(owner)),
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
    )


def alter_database(name: str, attributes: Mapping[str, object]) -> sql.Composed:
    spelled = {"is_template": sql.SQL("IS_TEMPLATE {}"), "connection_limit": sql.SQL("CONNECTION LIMIT {}")}
    options = [spelled[key].format(sql.Literal(value)) for key, value in attributes.items()]
    return sql.SQL("ALTER DATABASE {} WITH {}").format(sql.Identifier(name), sql.SQL(" ").join(options))


def create_extension(name: str, schema: str) -> sql.Composed:
    return sql.SQL("CREATE EXTENSION {} SCHEMA {}").format(sql.Identifier(name), sql.Identifier(schema))


def move_extension(name: str, schema: str) -> sql.Composed:
    return sql.SQL("ALTER EXTENSION {} SET SCHEMA {}").format(sql.Identifier(name), sql.Identifier(schema))


def update_extension(name: str) -> sql.Composed:
    return sql.SQL("ALTER EXTENSION {} UPDATE").format(sql.Identifier(name))


def create_schema(name: str, owner: str) -> sql.Composed:
    return sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(name), sql.Identifier(owner))


def set_owner(kind: str, target: sql.Composable, owner: str) -> sql.Composed:
    return sql.SQL("ALTER {} {} OWNER TO {}").format(sql.SQL(kind), target, sql.Identifier(owner))


def drop(kind: str, target: sql.Composable) -> sql.Composed:
    return sql.SQL("DROP {} {}").format(sql.SQL(kind), target)


def create_role(name: str, role: Role) -> sql.Composed:
    options = [
        sql.SQL(ATTRIBUTES["login"][not role.login]),
        sql.SQL(ATTRIBUTES["inherit"][not role.inherit]),
        sql.SQL(ATTRIBUTES["bypass_row_security"][not role.bypass_row_security]),
        sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(role.connection_limit)),
    ]
    return sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(options))


def alter_role(name: str, wanted: LiveRole, differing: Iterable[str]) -> sql.Composed:
    """Set the attributes named in `differing` (fields of LiveRole) as in `wanted`."""
    options: list[sql.Composable] = []
    for attribute in differing:
        if attribute == "connection_limit":
            options.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(wanted.connection_limit)))
        elif attribute == "expires":
            options.append(sql.SQL("VALID UNTIL 'infinity'"))
        else:
            options.append(sql.SQL(ATTRIBUTES[attribute][not getattr(wanted, attribute)]))
    return sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(options))


def set_password(name: str, verifier: str | None) -> tuple[Statement, ...]:
    alter = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier))
    return (UNLOGGED, alter)


def setting(role: str, database: str, key: str, value: str | None) -> sql.Composed:
    """Set a setting, or reset it when `value` is None; of every role, or in every database, where that is ''."""
    where = sql.SQL(" IN DATABASE {}").format(sql.Identifier(database)) if database else sql.SQL("")
    who = sql.Identifier(role) if role else sql.SQL("ALL")
    name = sql.Identifier(key)
    if value is None:
        what = sql.SQL("RESET {}").format(name)
    else:
        values = list_items(value) if key in LISTS else [value]
        what = sql.SQL("SET {} TO {}").format(name, sql.SQL(", ").join(map(sql.Literal, values)))
    return sql.SQL("ALTER ROLE {}{} {}").format(who, where, what)


def list_items(value: str) -> list[str]:
    """Return the items of a setting that is a list of names, whichever of them are quoted."""
    return [item.strip().strip('"') for item in value.split(",")]


def grant_membership(membership: Membership, version: int) -> sql.Composed:
    grant = sql.SQL("GRANT {} TO {}").format(sql.Identifier(membership.group), sql.Identifier(membership.member))
    if version < 160000:
        return grant
    become, inherit = (sql.SQL("TRUE" if option else "FALSE") for option in (membership.set, membership.inherit))
    return grant + sql.SQL(" WITH ADMIN FALSE, SET {}, INHERIT {}").format(become, inherit)


def revoke_membership(membership: Membership, *, only_admin: bool = False) -> sql.Composed:
    """Revoke a membership, or only the option to grant it on, and what was granted on with that option."""
    grantor = membership.grantor
    return sql.SQL("REVOKE {}{} FROM {}{} CASCADE").format(
        sql.SQL("ADMIN OPTION FOR " if only_admin else ""),
        sql.Identifier(membership.group),
        sql.Identifier(membership.member),
        sql.SQL(" GRANTED BY {}").format(sql.Identifier(grantor)) if grantor else sql.SQL(""),
    )


def revoke_default(privilege: DefaultPrivilege) -> sql.Composed:
    where = sql.SQL(" IN SCHEMA {}").format(sql.Identifier(privilege.schema)) if privilege.schema else sql.SQL("")
    return sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {}{} REVOKE {} ON {} FROM {}").format(
        sql.Identifier(privilege.creator), where, written(privilege.privilege),
        sql.SQL(OBJECT_TYPES[privilege.kind]), grantee(privilege.grantee),
    )  # fmt: skip


def grantee(name: str) -> sql.Composable:
    return sql.SQL("PUBLIC") if name == "PUBLIC" else sql.Identifier(name)


def privileges(pairs: Sequence[tuple[str, Sequence[str]]]) -> sql.Composable:
    """A privilege list; each privilege is on the whole object or on its columns."""
    listed = [
        written(name) + sql.SQL(" ({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
        if columns
        else written(name)
        for name, columns in pairs
    ]
    return sql.SQL(", ").join(listed)


def grant(what: sql.Composable, kind: str, target: sql.Composable, role: str) -> sql.Composed:
    return sql.SQL("GRANT {} ON {} {} TO {}").format(what, sql.SQL(kind), target, grantee(role))


def revoke(what: sql.Composable, kind: str, target: sql.Composable, role: str, *, only_option: bool) -> sql.Composed:
    """Revoke privileges, or only the option to grant them on, and what the role granted on with it."""
    option = sql.SQL("GRANT OPTION FOR " if only_option else "")
    return sql.SQL("REVOKE {}{} ON {} {} FROM {} CASCADE").format(option, what, sql.SQL(kind), target, grantee(role))


def create_function(function: Routine, owner: str, executors: Sequence[str]) -> tuple[Statement, ...]:
    """Create a function that from its first moment only `executors` may call."""
    target = qualified(function.name)
    return (
        written(function.sql),
        set_owner("FUNCTION", target, owner),
        sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(target),
        *(grant(sql.SQL("EXECUTE"), "FUNCTION", target, role) for role in executors),
    )


def create_view(view: View, owner: str, readers: Sequence[str], *, replace: bool) -> tuple[Statement, ...]:
    target = qualified(view.name)
    return (
        *([drop("VIEW", target)] if replace else []),
        sql.SQL("CREATE VIEW {} AS ").format(target) + written(view.query),
        set_owner("VIEW", target, owner),
        *(grant(sql.SQL("SELECT"), "TABLE", target, role) for role in readers),
    )


def row_security(table: str) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY").format(qualified(table))


def create_policy(policy: Policy, table: sql.Composable) -> sql.Composed:
    return sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {} {}").format(
        sql.Identifier(policy.name), table, sql.SQL("PERMISSIVE" if policy.permissive else "RESTRICTIVE"),
        sql.SQL(policy.command), sql.SQL(", ").join(map(sql.Identifier, policy.roles)), written(policy.clauses),
    )  # fmt: skip


def drop_policy(table: str, name: str) -> sql.Composed:
    return sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(name), qualified(table))


@dataclass(frozen=True, slots=True)
class RunMigration:
    """Runs through yoyo and not as one of our transactions.

    The tables of the `protected` schemas must be as recorded. `back` takes the migration back, after its `views`.
    """

    migration: Migration
    owner: str
    protected: tuple[str, ...]
    back: bool = False
    views: tuple[str, ...] = ()
