"""P18, P20, P21 and P23: secret columns, becoming another role, and functions that leak what they are given."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from psycopg import sql

from dbkeep.checks.attempts import Statement, attempt
from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.reach import Reach, foreign
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

SYSTEM_SECRETS = (
    "pg_authid",
    "pg_shadow",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_user_mapping",
    "pg_largeobject",
    "pg_subscription",
)
COLUMN_FORMS = (
    "SELECT {c} FROM {t} LIMIT 1",
    "SELECT FROM {t} WHERE {c} IS NOT NULL LIMIT 1",
    "SELECT FROM {t} ORDER BY {c} LIMIT 1",
    "SELECT count({c}) FROM {t}",
)
ROW_FORMS = ("SELECT * FROM {t} LIMIT 1", "SELECT r FROM {t} r LIMIT 1", "SELECT to_jsonb(r) FROM {t} r LIMIT 1")
COLUMNS = """
SELECT n.nspname || '.' || c.relname, array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname || '.' || c.relname = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped GROUP BY 1
"""
MEMBERSHIPS = """
SELECT m.rolname, g.rolname
FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
WHERE m.rolname ~ '^pg_'
UNION ALL SELECT pg_get_userbyid(datdba), 'pg_database_owner' FROM pg_database WHERE datname = current_database()
"""


@probe(
    "P18",
    "No role reads a column that is not declared for it, in any form, nor a secret of the server",
    area="read",
    sources=("splinter 0023 sensitive_columns_exposed", "CIS PostgreSQL 17 4.8", "PostgreSQL manual 5.8 Privileges"),
)
def secret_columns(world: World) -> Iterator[Finding]:
    found = world.session(world.login_roles[0]).execute(COLUMNS, [list(world.declared.tables)]).fetchall()
    columns: dict[str, list[str]] = dict(found)
    require(set(columns) == set(world.declared.tables), "a declared table is not there")
    for role in world.login_roles:
        for table, names in columns.items():
            allowed = reach.readable_columns(world.declared, role, table, names)
            for name in names:
                yield from _try_forms(world, role, table, name, allowed=name in allowed)
            if set(allowed) != set(names):
                yield from _try_forms(world, role, table, None, allowed=False)
        for secret in SYSTEM_SECRETS:
            tried = world.attempt(role, sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(secret)))
            if not tried.is_denied:
                yield Finding(role, secret, f"is readable: {tried}")


def _try_forms(world: World, role: str, table: str, column: str | None, *, allowed: bool) -> Iterator[Finding]:
    forms = ROW_FORMS if column is None else COLUMN_FORMS
    for form in forms[: 1 if allowed else None]:
        statement = sql.SQL(form).format(c=sql.Identifier(column or ""), t=sql.Identifier(*table.split(".")))
        tried = world.attempt(role, statement, person=world.people["anna"])
        require(not allowed or tried.sqlstate is None, f"{role} cannot read {table}.{column}, as declared ({tried})")
        if not allowed and not tried.is_denied:
            yield Finding(role, f"{table}.{column or '*'}", f"{form.format(c=column, t=table)}: {tried}")


@probe(
    "P20",
    "No role becomes another that is not declared, and the owner sees no row when one does",
    area="read",
    sources=("STIG SV-261888", "CIS PostgreSQL 17 4.9", "PostgreSQL manual: SET ROLE, SET SESSION AUTHORIZATION"),
)
def other_roles(world: World) -> Iterator[Finding]:
    roles = [name for (name,) in world.session(world.login_roles[0]).execute("SELECT rolname FROM pg_roles").fetchall()]
    require(len(roles) > len(world.declared.roles), "the server lists no other roles")
    for role in world.login_roles:
        may = _may_become(world, role)
        for other in (name for name in roles if name != role):
            became = world.attempt(role, sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(other)))
            if not became.is_denied and other not in may:
                yield Finding(role, f"SET ROLE {other}", f"works: {became}")
            declared = other in world.declared.roles[role].member_of
            require(not declared or not became.is_denied, f"{role} cannot become {other}, as it is declared to")
            statement = sql.SQL("SET LOCAL SESSION AUTHORIZATION {}").format(sql.Identifier(other))
            if not world.attempt(role, statement).is_denied:
                yield Finding(role, f"SET SESSION AUTHORIZATION {other}", "works")
    yield from _as_owner(world)
    if world.is_copy:
        yield from _as_definer(world)


def _may_become(world: World, role: str) -> set[str]:
    """The declared memberships of `role`, with those that the server's own roles have in each other."""
    system = world.session(role).execute(MEMBERSHIPS).fetchall()
    found, waiting = set[str](), [role]
    while waiting:
        name = waiting.pop()
        declared = world.declared.roles[name].member_of if name in world.declared.roles else ()
        new = {*declared, *(group for member, group in system if member == name)} - found
        found |= new
        waiting += new
    return found


def _as_owner(world: World) -> Iterator[Finding]:
    """Row security binds the owner too (FORCE): who becomes it to migrate sees no user's row on the way."""
    owner = world.declared.scope.owner
    members = [role for role in world.login_roles if owner in world.declared.roles[role].member_of]
    require(members, f"no role is declared to become {owner}")
    for role in members:
        with world.connect(role) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
            for table in world.declared.tables:
                for context in (None, world.context(world.people["anna"], connection)):
                    seen = attempt(connection, reach.any_row(table), user_id=context)
                    if not seen.is_harmless:
                        yield Finding(f"{role} as {owner}", table, f"{seen}")


def _as_definer(world: World) -> Iterator[Finding]:
    """Nobody can become the definer, so the superuser does: it must reach what its policies name, and no more."""
    definer = world.declared.scope.definer
    for table in world.declared.tables:
        with world.lent(definer) as connection:
            seen = attempt(connection, reach.any_row(table))
        declared = reach.of(world.declared, definer, table)
        if declared is Reach.NONE and not seen.is_harmless:
            yield Finding(definer, table, f"{seen}")
        require(declared is Reach.NONE or seen.rows, f"{definer} sees nothing of {table} ({seen})")


LEAK = b"""
CREATE FUNCTION probe.leak(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
    PERFORM set_config('probe.seen', current_setting('probe.seen', true) || ' ' || value, true);
    RETURN true;
END $$;
CREATE FUNCTION probe.leak(value text, other text) RETURNS boolean LANGUAGE sql COST 0.0001
    AS 'SELECT probe.leak(value)';
CREATE OPERATOR probe.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = probe.leak)
"""
PLACE = "CREATE SCHEMA probe"
LEND = "GRANT USAGE, CREATE ON SCHEMA probe TO {role}; GRANT USAGE ON LANGUAGE plpgsql, sql TO {role}"


@probe(
    "P21",
    "A function or operator of the attacker's own is given visible rows only",
    area="read",
    sources=("PostgreSQL manual 41.5 Rules and Privileges", "CVE-2017-7484", "CVE-2019-10130"),
    live=False,
)
def leaky_functions(world: World) -> Iterator[Finding]:
    """No role has a place to make one: first that is tried, then a place is lent."""
    for role in world.login_roles:
        made = world.attempt(role, b"CREATE FUNCTION pg_temp.leak() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        if not made.is_denied:
            yield Finding(role, "pg_temp", f"a temporary function can be made: {made}")
    person = world.people["anna"]
    for role, table in reach.bound_to_user(world.declared):
        for form in (
            b"SELECT FROM %t WHERE probe.leak(id::text)",
            b"SELECT FROM %t WHERE id::text OPERATOR(probe.<<<) ''",
        ):
            with world.lent(role, PLACE, LEND.format(role=role)) as connection:
                connection.execute(LEAK)
                connection.execute("SELECT set_config('probe.seen', '', true)")
                world.act_for(connection, person)
                connection.execute(form.replace(b"%t", table.encode()))
                seen = connection.execute("SELECT current_setting('probe.seen')").fetchone()
            found = {UUID(value) for value in str(seen[0]).split()} if seen else set()
            require(found, f"the leaking function was never called for {table}")
            if foreign(world, table, person, found):
                yield Finding(role, table, "a leaking function was given rows of others")


@probe(
    "P23",
    "No role makes or marks a function LEAKPROOF",
    area="read",
    sources=("pgrls SEC017", "PostgreSQL manual: CREATE FUNCTION, LEAKPROOF"),
)
def leakproof(world: World) -> Iterator[Finding]:
    make: list[tuple[str, Statement]] = [
        ("CREATE FUNCTION", b"CREATE FUNCTION chat.probe() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1'"),
        *(
            ("ALTER FUNCTION", sql.SQL("ALTER FUNCTION {} LEAKPROOF").format(sql.Identifier(*function.name.split("."))))
            for function in world.declared.functions
        ),
    ]
    for role in world.login_roles:
        for name, statement in make:
            tried = world.attempt(role, statement)
            if not tried.is_denied:
                yield Finding(role, name, f"LEAKPROOF is not refused: {tried}")
    if world.is_copy:
        yield from _with_a_place(world)


def _with_a_place(world: World) -> Iterator[Finding]:
    """Even a role that may make functions makes none that is trusted not to leak."""
    for role in world.login_roles:
        with world.lent(role, PLACE, LEND.format(role=role)) as connection:
            plain = attempt(connection, b"CREATE FUNCTION probe.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
            trusted = attempt(connection, b"CREATE FUNCTION probe.f() RETURNS int LANGUAGE sql LEAKPROOF AS 'SELECT 1'")
        require(plain.sqlstate is None, f"{role} cannot make a function where it may ({plain})")
        if not trusted.is_denied:
            yield Finding(role, "CREATE FUNCTION", f"LEAKPROOF is not refused: {trusted}")
