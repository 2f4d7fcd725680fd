"""The diff of grantors, settings of the database, extensions and objects of all other kinds, on values alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dbkeep.plan import Change
from dbkeep.postgresql.inspect import Grant, Live, Membership
from dbkeep.postgresql.inspect.others import LiveExtension, LiveObject

CASES: list[tuple[str, Callable[[Live], dict[str, Any]], list[tuple[str, str, str]]]] = [
    (
        "membership by another grantor",
        lambda live: {"memberships": live.memberships | {Membership("pg_monitor", "chat_monitor", grantor="app_api")}},
        [
            (
                "membership",
                "chat_monitor in pg_monitor by app_api",
                'REVOKE "pg_monitor" FROM "chat_monitor" GRANTED BY "app_api" CASCADE',
            ),
        ],
    ),
    (
        "a circle is opened before it would close",
        lambda live: {
            "memberships": frozenset(m for m in live.memberships if m.group != "chat_owner")
            | {Membership("chat_migrator", "chat_owner")}
        },
        [
            (
                "membership",
                "chat_owner in chat_migrator",
                'REVOKE "chat_migrator" FROM "chat_owner" CASCADE',
            ),
            (
                "membership",
                "chat_migrator in chat_owner",
                'GRANT "chat_owner" TO "chat_migrator" WITH ADMIN FALSE, SET TRUE, INHERIT FALSE',
            ),
        ],
    ),
    (
        "privilege that somebody else granted",
        lambda live: {"indirect": live.indirect | {Grant("SCHEMA", "", "chat", "", "USAGE", "app_api")}},
        [("grant", "schema chat: app_api", 'GRANT USAGE ON SCHEMA "chat" TO "app_api"')],
    ),
    (
        "privilege that the owner lacks",
        lambda live: {"lacking": live.lacking | {Grant("TABLE", "chat", "users", "", "SELECT", "chat_owner")}},
        [("grant", "table chat.users: chat_owner", 'GRANT SELECT ON TABLE "chat"."users" TO "chat_owner"')],
    ),
    (
        "setting of every role",
        lambda live: {"settings": {**live.settings, ("", "chat", "app.user_id"): "x"}},
        [
            (
                "setting",
                "every role: app.user_id in chat",
                'ALTER ROLE ALL IN DATABASE "chat" RESET "app.user_id"',
            ),
        ],
    ),
    (
        "database as a template",
        lambda live: {"database_attributes": {**live.database_attributes, "is_template": True}},
        [("database", "chat", 'ALTER DATABASE "chat" WITH IS_TEMPLATE false')],
    ),
    (
        "extension not of the default version",
        lambda live: {
            "others": replace(
                live.others,
                extensions={**live.others.extensions, "plpgsql": LiveExtension("0.9", "pg_catalog", "1.0")},
            )
        },
        [("extension", "plpgsql", 'ALTER EXTENSION "plpgsql" UPDATE')],
    ),
    (
        "objects of other kinds: what uses others goes first, the newest of a kind before",
        lambda live: {
            "others": replace(
                live.others,
                objects=frozenset(
                    {
                        LiveObject("type", "chat.mood", "postgres", True, 1),
                        LiveObject("type", "chat.pair", "postgres", True, 2),
                        LiveObject("rule", "quiet on chat.users", "postgres", False, 3),
                        LiveObject("user mapping", "app_api on server away", "postgres", False, 4),
                    }
                ),
            )
        },
        [
            ("user mapping", "app_api on server away", "DROP USER MAPPING FOR app_api SERVER away"),
            ("rule", "quiet on chat.users", "DROP RULE quiet on chat.users"),
            ("type", "chat.pair", "DROP TYPE chat.pair"),
            ("type", "chat.mood", "DROP TYPE chat.mood"),
        ],
    ),
    (
        "owned elsewhere",
        lambda live: {
            "others": replace(live.others, owned_elsewhere=frozenset({LiveObject("table", "public.t", "app_api")}))
        },
        [("owner", "table public.t", 'ALTER TABLE public.t OWNER TO "postgres"')],
    ),
]


@pytest.mark.parametrize(("broken", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_one_difference(
    converged: Any,
    changes: Callable[[Live], list[Change]],
    broken: Callable[[Live], dict[str, Any]],
    expected: list[tuple[str, str, str]],
) -> None:
    found = changes(replace(converged.live, **broken(converged.live)))
    assert [(change.kind, change.target, change.statement) for change in found] == expected
