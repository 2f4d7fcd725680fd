"""Differences of roles: attributes, passwords, settings and memberships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from psycopg import sql

from dbkeep.errors import UsageError
from dbkeep.plan import Change, Risk
from dbkeep.postgresql import scram, statements
from dbkeep.postgresql.change import change
from dbkeep.postgresql.inspect import Live, LiveRole, Membership
from dbkeep.postgresql.models import Declared, Role
from dbkeep.postgresql.statements import Statement


def roles(declared: Declared, live: Live) -> Iterator[Change]:
    """Roles that are missing or whose attributes differ."""
    for name, role in declared.roles.items():
        wanted = _attributes(role)
        have = live.roles.get(name)
        if have is None:
            yield change("role", name, "create", statements.create_role(name, role), after=_shown(wanted))
            continue
        before, after = _shown(have), _shown(wanted)
        differing = [key for key in after if before[key] != after[key]]
        if differing:
            yield change(
                "role", name, f"set {', '.join(differing)}", statements.alter_role(name, wanted, differing),
                before={key: before[key] for key in differing}, after={key: after[key] for key in differing},
            )  # fmt: skip


def passwords(declared: Declared, live: Live, secrets: Mapping[str, str]) -> Iterator[Change]:
    """Passwords that are missing, not SCRAM, not the ones in `secrets`, or set for a role that must not log on."""
    for name, role in declared.roles.items():
        stored = live.roles[name].verifier if name in live.roles else None
        password = secrets.get(name)
        if not role.login:
            if stored is not None:
                yield _password(name, "remove: the role does not log on", None)
        elif password is not None:
            if not scram.matches(stored, password):
                yield _password(name, "set" if stored is None else "replace", scram.verifier(password))
        elif not scram.is_verifier(stored):
            yield _password(
                name, "set", None, refused="the environment has no password for it: generate one with `dbkeep init`"
            )


def settings(declared: Declared, live: Live) -> Iterator[Change]:
    """Settings of roles, of the database and of every role that are missing, differ, or are not declared."""
    wanted = {(name, "", key): value for name, role in declared.roles.items() for key, value in role.settings.items()}
    wanted |= {("", declared.scope.database, key): value for key, value in declared.scope.settings.items()}
    have = {key: value for key, value in live.settings.items() if key[0] in declared.roles or not key[0]}
    for key in sorted(wanted.keys() | have.keys()):
        role, database, name = key
        if _same_setting(name, wanted.get(key), have.get(key)):
            continue
        yield change(
            "setting", f"{role or 'every role'}: {name}" + (f" in {database}" if database else ""),
            "set" if key in wanted else "reset", statements.setting(role, database, name, wanted.get(key)),
            before=have.get(key), after=wanted.get(key), where=declared.where_granted(role, name),
        )  # fmt: skip


def _same_setting(name: str, wanted: str | None, have: str | None) -> bool:
    if wanted is None or have is None or name not in statements.LISTS:
        return wanted == have
    return statements.list_items(wanted) == statements.list_items(have)


def memberships(declared: Declared, live: Live) -> Iterator[Change]:
    """Memberships of and in managed roles that are missing, differ in an option, or are not declared.

    Revokes come first: the server refuses a membership that would close a circle.

    Raises UsageError when an option is declared that this version of the server does not have.
    """
    wanted = {(m.group, m.member, m.grantor): m for m in _memberships(declared, live.version)}
    have = {
        (m.group, m.member, m.grantor): _comparable(m, wanted.get((m.group, m.member, m.grantor)), live.version)
        for m in live.memberships
    }
    known = declared.roles.keys() | live.roles.keys() | live.predefined_roles
    differing = [key for key in wanted.keys() | have.keys() if wanted.get(key) != have.get(key)]
    for key in sorted(differing, key=lambda key: (key in wanted, key)):
        group, member, grantor = key
        where = declared.where_granted(member, group)
        before, after = have.get(key), wanted.get(key)
        operation: list[Statement] = []
        if before and (after is None or before.admin):
            operation.append(statements.revoke_membership(before, only_admin=after is not None))
        if after:
            operation.append(statements.grant_membership(after, live.version))
        yield change(
            "membership", f"{member} in {group}" + (f" by {grantor}" if grantor else ""),
            "grant" if after else "revoke", *operation, before=_options(before), after=_options(after),
            where=where if after else "",
            refused=f"{where}: this server has no role {group}" if after and group not in known else None,
        )  # fmt: skip


def _memberships(declared: Declared, version: int) -> Iterator[Membership]:
    for name, role in declared.roles.items():
        for group, options in role.member_of.items():
            inherit = role.inherit if options.inherit is None else options.inherit
            if version < 160000 and (inherit is not role.inherit or not options.set):
                raise UsageError(
                    f"{declared.where_granted(name, group)}: {name} in {group}: PostgreSQL {version // 10000} has no"
                    " option of a membership: declare none, or use PostgreSQL 16 or newer"
                )
            yield Membership(group, name, inherit=inherit, set=options.set)


def undeclared(declared: Declared, live: Live) -> Iterator[Change]:
    """Roles inside the managed names that nothing declares."""
    for name in sorted(live.roles.keys() - declared.roles.keys()):
        yield change(
            "role", name, "drop: not declared", statements.drop("ROLE", sql.Identifier(name)),
            before=_shown(live.roles[name]), risk=Risk.DESTRUCTIVE,
        )  # fmt: skip


def _attributes(role: Role) -> LiveRole:
    return LiveRole(
        login=role.login, inherit=role.inherit, bypass_row_security=role.bypass_row_security,
        connection_limit=role.connection_limit,
    )  # fmt: skip


def _shown(role: LiveRole) -> dict[str, object]:
    return {key: value for key, value in asdict(role).items() if key != "verifier"}


def _password(name: str, summary: str, verifier: str | None, refused: str | None = None) -> Change:
    shown = "PASSWORD NULL" if verifier is None and not refused else "PASSWORD '…'"
    return change(
        "password", name, summary, *statements.set_password(name, verifier),
        shown=f"ALTER ROLE {sql.Identifier(name).as_string(None)} {shown}", refused=refused,
    )  # fmt: skip


def _comparable(have: Membership, wanted: Membership | None, version: int) -> Membership:
    """Before 16 a membership has no INHERIT and SET of its own: only ADMIN can differ."""
    if version >= 160000 or wanted is None:
        return have
    return replace(wanted, admin=have.admin)


def _options(membership: Membership | None) -> dict[str, bool] | None:
    if membership is None:
        return None
    return {"admin": membership.admin, "inherit": membership.inherit, "set": membership.set}
