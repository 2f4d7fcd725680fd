"""Mutants of roles: attributes, memberships, settings and limits. They are of the cluster, so each one is undone."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from dbkeep.postgresql import statements
from dbkeep.postgresql.prove.mutants.mutant import Ground, Mutant
from dbkeep.postgresql.statements import Statement

ATTRIBUTES = ("superuser", "create_role", "create_database", "replication", "bypass_row_security")
# Predefined roles that read, write or run what row security and grants do not reach.
PREDEFINED = (
    "pg_read_all_data", "pg_write_all_data", "pg_read_server_files", "pg_write_server_files",
    "pg_execute_server_program", "pg_monitor", "pg_signal_backend", "pg_database_owner",
)  # fmt: skip
# Memberships have INHERIT and SET of their own.
OPTIONS_SINCE = 160000


def attributes(ground: Ground) -> Iterator[Mutant]:
    """Yield each login role with each attribute that it must not have, and owners that can log on."""
    for role in ground.logins():
        for attribute in ATTRIBUTES:
            if not getattr(ground.live.roles[role], attribute):
                on, off = statements.ATTRIBUTES[attribute]
                yield _altered(role, f"attribute {on}", on, off)
    for role in (ground.declared.scope.owner, ground.declared.scope.definer):
        yield _altered(role, "owner logs on", "LOGIN", "NOLOGIN")
        yield _altered(role, "owner attribute", "BYPASSRLS", "NOBYPASSRLS")
        yield _altered(role, "owner attribute", "SUPERUSER", "NOSUPERUSER")


def _altered(role: str, kind: str, on: str, off: str) -> Mutant:
    run, undo = (sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role), sql.SQL(word)) for word in (on, off))
    return Mutant(f"{role} {on}", kind, (run,), (undo,), about=frozenset({role}))


def memberships(ground: Ground) -> Iterator[Mutant]:
    """Yield each login role in each role that it is not a member of, and the options of declared memberships."""
    scope, roles = ground.declared.scope, ground.declared.roles
    for role in ground.logins():
        # pg_database_owner has only implicit members (manual, 22.5 "Predefined Roles").
        groups = [scope.owner, scope.definer, *(group for group in PREDEFINED if group != "pg_database_owner")]
        for group in groups:
            if group not in roles[role].member_of:
                kind = "member of an owner" if group in roles else "member of a predefined role"
                yield _member(role, group, kind)
        for group in roles[role].member_of:
            admin_off = sql.SQL("REVOKE ADMIN OPTION FOR {} FROM {}").format(
                sql.Identifier(group), sql.Identifier(role)
            )
            yield Mutant(
                f"{role} administers {group}", "admin option",
                (_granted(group, role, " WITH ADMIN OPTION"),), (admin_off,), about=frozenset({role}),
            )  # fmt: skip
            yield _membership_taken(ground, role, group)
    yield from _inherited(ground)
    if ground.live.version >= OPTIONS_SINCE:
        for role in ground.logins():
            if scope.owner not in roles[role].member_of:
                yield _member(role, scope.owner, "inherits from an owner", " WITH SET FALSE, INHERIT TRUE")


def _granted(group: str, role: str, options: str = "") -> Statement:
    return sql.SQL("GRANT {} TO {}{}").format(sql.Identifier(group), sql.Identifier(role), sql.SQL(options))


def _member(role: str, group: str, kind: str, options: str = "") -> Mutant:
    revoke = sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(group), sql.Identifier(role))
    name = f"{role} in {group}{options}"
    return Mutant(name, kind, (_granted(group, role, options),), (revoke,), about=frozenset({role, group}))


def _membership_taken(ground: Ground, role: str, group: str) -> Mutant:
    live = next(one for one in ground.live.memberships if (one.group, one.member) == (group, role))
    revoke = sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(group), sql.Identifier(role))
    undo = statements.grant_membership(live, ground.live.version)
    return Mutant(f"{role} no longer in {group}", "membership taken", (revoke,), (undo,), about=frozenset({role}))


def _inherited(ground: Ground) -> Iterator[Mutant]:
    """A role that must become its group with SET ROLE has the group's rights at once."""
    for role, declared in ground.declared.roles.items():
        if declared.inherit:
            continue
        for group in declared.member_of:
            if ground.live.version >= OPTIONS_SINCE:
                on, off = (_granted(group, role, f" WITH INHERIT {value}") for value in ("TRUE", "FALSE"))
            else:
                on, off = (
                    sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role), sql.SQL(word))
                    for word in ("INHERIT", "NOINHERIT")
                )
            yield Mutant(f"{role} inherits {group}", "membership inherited", (on,), (off,), about=frozenset({role}))


def settings(ground: Ground) -> Iterator[Mutant]:
    """Yield each role's declared setting reset, row security switched off, limits lifted and passwords gone."""
    for role in ground.logins():
        declared = ground.declared.roles[role]
        for name, value in declared.settings.items():
            # What is declared although the server does it anyway stays the same when it is reset.
            if value == ground.server_defaults.get(name):
                continue
            yield _setting(role, name, None, value, "setting reset")
        row_security = declared.settings.get("row_security")
        yield _setting(role, "row_security", "off", row_security, "row_security off")
        limit = "CONNECTION LIMIT"
        yield _altered(role, "connection limit lifted", f"{limit} -1", f"{limit} {declared.connection_limit}")


def _setting(role: str, name: str, value: str | None, back: str | None, kind: str) -> Mutant:
    run, undo = statements.setting(role, "", name, value), statements.setting(role, "", name, back)
    return Mutant(f"{role}: {name} {value or 'reset'}", kind, (run,), (undo,), about=frozenset({role}))
