"""C01 to C05: what no attempt can tell, read from the catalogs: latent rights, limits and attributes of functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbkeep.postgresql.files import PINNED
from dbkeep.postgresql.models import Routine
from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

ROLES = """
SELECT rolname, rolcanlogin, rolinherit, rolbypassrls, rolconnlimit,
       rolsuper, rolcreaterole, rolcreatedb, rolreplication
FROM pg_roles WHERE rolname = ANY(%s)
"""
MEMBERS = """
SELECT m.rolname, g.rolname, a.admin_option
FROM pg_auth_members a JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid
WHERE m.rolname = ANY(%s)
"""
# Of a privilege without a place to use it no attempt can tell: REFERENCES needs a table of one's own.
LATENT = """
SELECT r.rolname, n.nspname || '.' || c.relname, p.privilege
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles r,
     unnest(%(privileges)s::text[]) AS p (privilege)
WHERE n.nspname || '.' || c.relname = ANY(%(tables)s) AND r.rolname = ANY(%(roles)s)
    AND (has_table_privilege(r.oid, c.oid, p.privilege)
        OR p.privilege = 'REFERENCES' AND has_any_column_privilege(r.oid, c.oid, p.privilege))
"""
FUNCTIONS = f"""
SELECT n.nspname || '.' || p.proname, p.prosecdef, p.provolatile::text, p.proleakproof,
       (SELECT setting FROM unnest(p.proconfig) AS setting WHERE starts_with(setting, 'search_path=')),
       pg_get_userbyid(p.proowner)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND {reach.OUR_OWN.format("p")}
"""
PUBLIC_ON_DATABASES = """
SELECT datname, privilege_type FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))
WHERE grantee = 0 AND datname = ANY(%s)
"""
VOLATILITY = {"IMMUTABLE": "i", "STABLE": "s", "VOLATILE": "v"}


@probe(
    "C01", "Roles have the attributes and limits that are declared", area="catalog",
    sources=("CIS PostgreSQL 17 4.3", "CIS PostgreSQL 17 5.5", "STIG SV-261857"),
)  # fmt: skip
def attributes(world: World) -> Iterator[Finding]:
    rows = world.session(world.login_roles[0]).execute(ROLES, [list(world.declared.roles)]).fetchall()
    require(len(rows) == len(world.declared.roles), "a declared role is not there")
    for name, *found in rows:
        role = world.declared.roles[name]
        wanted = [role.login, role.inherit, role.bypass_row_security, role.connection_limit, *[False] * 4]
        for attribute, have, want in zip(
            ("LOGIN", "INHERIT", "BYPASSRLS", "CONNECTION LIMIT", "SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION"),
            found, wanted, strict=True,
        ):  # fmt: skip
            if have != want:
                yield Finding(name, attribute, f"is {have}, not {want}")


@probe(
    "C02", "Memberships are those that are declared, and nobody may give them on", area="catalog",
    sources=("CIS PostgreSQL 17 4.9", "STIG SV-261888"),
)  # fmt: skip
def memberships(world: World) -> Iterator[Finding]:
    rows = world.session(world.login_roles[0]).execute(MEMBERS, [list(world.declared.roles)]).fetchall()
    found = {(member, group) for member, group, _ in rows}
    declared = {(name, group) for name, role in world.declared.roles.items() for group in role.member_of}
    for member, group in sorted(found - declared):
        yield Finding(member, group, "is a member and not declared to be")
    for member, group in sorted(declared - found):
        yield Finding(member, group, "is no member, as it is declared to be")
    for member, group, admin in rows:
        if admin:
            yield Finding(member, group, "may give the membership on")


@probe(
    "C03", "No role has a privilege on a table that row security does not bind", area="catalog",
    sources=("CIS PostgreSQL 17 4.6", "PostgreSQL manual 5.9 Row Security Policies"),
)  # fmt: skip
def latent_privileges(world: World) -> Iterator[Finding]:
    connection = world.session(world.login_roles[0])
    privileges = ["TRUNCATE", "REFERENCES", "TRIGGER"]
    if connection.info.server_version >= 170000:
        privileges.append("MAINTAIN")
    roles = [name for name in world.declared.roles if name != world.declared.scope.owner]
    which = {"tables": list(world.declared.tables), "roles": roles, "privileges": privileges}
    for role, table, privilege in connection.execute(LATENT, which).fetchall():
        yield Finding(role, table, f"{privilege} is granted")


@probe(
    "C04", "Functions have the security, volatility and search_path that are declared", area="catalog",
    sources=("STIG SV-261916", "splinter 0011 function_search_path_mutable", "pgrls SEC017, SEC046"),
)  # fmt: skip
def functions(world: World) -> Iterator[Finding]:
    scope = world.declared.scope
    rows = world.session(world.login_roles[0]).execute(FUNCTIONS).fetchall()
    declared = {function.name: function for function in world.declared.functions}
    require({name for name, *_ in rows} >= declared.keys(), "a declared function is not there")
    for name, definer, volatility, leakproof, path, owner in rows:
        if name not in declared:
            yield Finding(owner, name, "is not declared")
            continue
        function = declared[name]
        head = _head(function)
        wanted_volatility = next((letter for word, letter in VOLATILITY.items() if word in head), "v")
        for attribute, have, want in (
            ("SECURITY DEFINER", definer, function.security_definer),
            ("volatility", volatility, wanted_volatility),
            ("LEAKPROOF", leakproof, False),
            ("search_path", path, PINNED.removeprefix("SET ").replace(" = ", "=") if PINNED.upper() in head else None),
            ("owner", owner, scope.definer if function.security_definer else scope.owner),
        ):
            if have != want:
                yield Finding(owner, name, f"{attribute} is {have}, not {want}")


def _head(function: Routine) -> str:
    return " ".join(re.split(r"\$\w*\$|\bRETURN\b", function.sql, maxsplit=1)[0].upper().split())


@probe(
    "C05", "PUBLIC has nothing on the databases that are declared as closed", area="catalog",
    sources=("CIS PostgreSQL 17 4.10", "DevSec postgres-17"),
)  # fmt: skip
def closed_databases(world: World) -> Iterator[Finding]:
    """Without CONNECT no role gets as far as to use TEMPORARY or CREATE: only the catalog tells of them."""
    closed = [world.database, *world.declared.scope.closed_to_public.databases]
    rows = world.session(world.login_roles[0]).execute(PUBLIC_ON_DATABASES, [closed]).fetchall()
    for database, privilege in rows:
        yield Finding("PUBLIC", database, f"{privilege} is granted")
