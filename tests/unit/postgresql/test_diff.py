"""The diff, on values alone: a live state that is as declared, changed in one place at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dbkeep.plan import Change, Risk
from dbkeep.postgresql.diff import Normal, diff
from dbkeep.postgresql.inspect import (
    DefaultPrivilege,
    Grant,
    Live,
    LiveFunction,
    LivePolicy,
    LiveRelation,
    LiveRole,
    Membership,
)
from dbkeep.postgresql.shape.tables import Tables

Changes = Callable[[Live], list[Change]]


def _without(values: dict[Any, Any], key: Any) -> dict[Any, Any]:
    return {name: value for name, value in values.items() if name != key}


def test_as_declared_is_no_change(converged: Any, changes: Changes) -> None:
    assert changes(converged.live) == []


CASES: list[tuple[str, Callable[[Live], dict[str, Any]], list[tuple[str, str, str]]]] = [
    (
        "role gone",
        lambda live: {"roles": _without(live.roles, "chat_monitor")},
        [
            ("role", "chat_monitor", 'CREATE ROLE "chat_monitor" LOGIN INHERIT NOBYPASSRLS CONNECTION LIMIT 3'),
            ("password", "chat_monitor", "ALTER ROLE \"chat_monitor\" PASSWORD '…'"),
        ],
    ),
    (
        "role's attributes",
        lambda live: {"roles": {**live.roles, "app_api": replace(live.roles["app_api"], superuser=True, login=False)}},
        [
            ("role", "app_api", 'ALTER ROLE "app_api" LOGIN NOSUPERUSER'),
        ],
    ),
    (
        "undeclared role",
        lambda live: {"roles": {**live.roles, "chat_x": LiveRole()}},
        [("role", "chat_x", 'DROP ROLE "chat_x"')],
    ),
    (
        "setting",
        lambda live: {"settings": {**live.settings, ("app_api", "", "work_mem"): "1GB"}},
        [
            ("setting", "app_api: work_mem", 'ALTER ROLE "app_api" RESET "work_mem"'),
        ],
    ),
    (
        "membership",
        lambda live: {"memberships": live.memberships | {Membership("chat_owner", "app_api")}},
        [
            ("membership", "app_api in chat_owner", 'REVOKE "chat_owner" FROM "app_api" CASCADE'),
        ],
    ),
    (
        "membership inherits",
        lambda live: {"memberships": frozenset(replace(m, inherit=True) for m in live.memberships)},
        [
            (
                "membership",
                "chat_migrator in chat_owner",
                'GRANT "chat_owner" TO "chat_migrator" WITH ADMIN FALSE, SET TRUE, INHERIT FALSE',
            ),
        ],
    ),
    (
        "before 16 a membership has no option",
        lambda live: {
            "version": 150000,
            "memberships": frozenset(replace(m, inherit=True) for m in live.memberships),
            "tables": Tables(),
        },
        [],
    ),
    (
        "admin option",
        lambda live: {"memberships": frozenset(replace(m, admin=m.member == "chat_monitor") for m in live.memberships)},
        [
            (
                "membership",
                "chat_monitor in pg_monitor",
                (
                    'REVOKE ADMIN OPTION FOR "pg_monitor" FROM "chat_monitor" CASCADE;\n'
                    'GRANT "pg_monitor" TO "chat_monitor" WITH ADMIN FALSE, SET TRUE, INHERIT TRUE'
                ),
            ),
        ],
    ),
    (
        "schema's owner",
        lambda live: {"schemas": {**live.schemas, "report": "postgres"}},
        [
            ("schema", "report", 'ALTER SCHEMA "report" OWNER TO "chat_owner"'),
        ],
    ),
    (
        "row security",
        lambda live: {"relations": {**live.relations, "chat.users": LiveRelation("r", "chat_owner", True, False)}},
        [
            (
                "row security",
                "chat.users",
                'ALTER TABLE "chat"."users" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
            ),
        ],
    ),
    (
        "undeclared table",
        lambda live: {"relations": {**live.relations, "chat.x": LiveRelation("r", "chat_owner", True, True)}},
        [
            ("table", "chat.x", 'DROP TABLE "chat"."x"'),
        ],
    ),
    (
        "policy gone",
        lambda live: {"policies": _without(live.policies, ("chat.settings", "own"))},
        [
            (
                "policy",
                "chat.settings: own",
                (
                    'CREATE POLICY "own" ON "chat"."settings" AS PERMISSIVE FOR SELECT TO "app_api"'
                    " USING (user_id = (SELECT chat.current_user_id()))"
                ),
            ),
        ],
    ),
    (
        "undeclared policy",
        lambda live: {"policies": {**live.policies, ("chat.users", "x"): LivePolicy(True, "ALL", (), "true", None)}},
        [
            ("policy", "chat.users: x", 'DROP POLICY "x" ON "chat"."users"'),
        ],
    ),
    (
        "undeclared function",
        lambda live: {"functions": (*live.functions, LiveFunction("chat.x", "integer, text", "postgres"))},
        [
            ("function", "chat.x(integer, text)", 'DROP FUNCTION "chat"."x"(integer, text)'),
        ],
    ),
    (
        "column granted",
        lambda live: {"grants": live.grants | {Grant("COLUMN", "chat", "users", "email", "SELECT", "app_api")}},
        [
            (
                "grant",
                "table chat.users: app_api",
                'REVOKE SELECT ("email") ON TABLE "chat"."users" FROM "app_api" CASCADE',
            ),
        ],
    ),
    (
        "grants to PUBLIC in one change",
        lambda live: {
            "grants": live.grants
            | {Grant("DATABASE", "", "postgres", "", privilege, "PUBLIC") for privilege in ("CONNECT", "TEMPORARY")}
        },
        [
            (
                "grant",
                "database postgres: PUBLIC",
                'REVOKE CONNECT, TEMPORARY ON DATABASE "postgres" FROM PUBLIC CASCADE',
            ),
        ],
    ),
    (
        "grant option of a privilege that stays",
        lambda live: {
            "grants": live.grants | {Grant("TABLE", "chat", "profiles", "", "SELECT", "app_api", grantable=True)}
        },
        [
            (
                "grant",
                "table chat.profiles: app_api",
                'REVOKE GRANT OPTION FOR SELECT ON TABLE "chat"."profiles" FROM "app_api" CASCADE',
            ),
        ],
    ),
    (
        "default privileges",
        lambda live: {
            "default_privileges": live.default_privileges
            | {DefaultPrivilege("chat_owner", "report", "r", "SELECT", "app_api")}
        },
        [
            (
                "default privilege",
                "chat_owner: tables in report",
                (
                    'ALTER DEFAULT PRIVILEGES FOR ROLE "chat_owner" IN SCHEMA "report" REVOKE SELECT ON TABLES'
                    ' FROM "app_api"'
                ),
            ),
        ],
    ),
]


@pytest.mark.parametrize(("broken", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_difference(
    converged: Any, changes: Changes, broken: Callable[[Live], dict[str, Any]], expected: list[tuple[str, str, str]]
) -> None:
    found = changes(replace(converged.live, **broken(converged.live)))
    assert [(change.kind, change.target, change.statement) for change in found] == expected


def test_removing_is_destructive_and_policies_lock(converged: Any, changes: Changes) -> None:
    live = replace(
        converged.live,
        roles={**converged.live.roles, "chat_x": LiveRole()},
        functions=(*converged.live.functions, LiveFunction("chat.x", "", "postgres")),
        policies={},
    )
    risks = {(change.kind, change.risk) for change in changes(live)}
    assert risks == {("role", Risk.DESTRUCTIVE), ("function", Risk.DESTRUCTIVE), ("policy", Risk.LOCKING)}


def test_order_closes_before_it_opens(converged: Any) -> None:
    kinds = [change.kind for change in diff(converged.declared, converged.empty, Normal(), converged.secrets)]
    first = {kind: kinds.index(kind) for kind in kinds}
    last = {kind: len(kinds) - 1 - kinds[::-1].index(kind) for kind in kinds}
    assert last["role"] < first["membership"] < first["database"] < first["schema"] < first["function"]
    assert first["function"] < first["migration"] < last["migration"] < first["row security"] < first["policy"]
    assert last["policy"] < first["grant"]


def test_no_secret_is_shown(converged: Any) -> None:
    everything = diff(converged.declared, converged.empty, Normal(), converged.secrets)
    shown = "".join(f"{change!r}{change.as_json()}" for change in everything)
    assert "SCRAM" not in shown
    assert not any(secret in shown for secret in converged.secrets.values())
    assert "verifier" not in repr(converged.live.roles)
