"""The five tables against the database plan: columns, and an index for every foreign key and policy column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dbkeep.postgresql import Declared

Connect = Callable[..., psycopg.Connection[tuple[Any, ...]]]
NOW = "now()"
# The plan's columns: type, whether NULL is allowed, default. TIMESTAMP is timestamptz; a foreign key allows no NULL,
# because a row of nobody means nothing; email is an envelope in text (docs/decisions/email-is-an-envelope-in-text.md).
PLAN: dict[str, dict[str, tuple[str, bool, str | None]]] = {
    "users": {
        "id": ("uuid", False, None),
        "email": ("text", False, None),
        "username": ("character varying(50)", False, None),
        "password_hash": ("character varying(255)", False, None),
        "created_at": ("timestamp with time zone", False, NOW),
        "updated_at": ("timestamp with time zone", False, NOW),
        "last_login_at": ("timestamp with time zone", True, None),
        "is_active": ("boolean", False, "true"),
        "is_verified": ("boolean", False, "false"),
    },
    "profiles": {
        "id": ("uuid", False, None),
        "user_id": ("uuid", False, None),
        "display_name": ("character varying(100)", True, None),
        "bio": ("text", True, None),
        "avatar_url": ("character varying(255)", True, None),
        "created_at": ("timestamp with time zone", False, NOW),
        "updated_at": ("timestamp with time zone", False, NOW),
    },
    "relationships": {
        "id": ("uuid", False, None),
        "user_id": ("uuid", False, None),
        "related_user_id": ("uuid", False, None),
        "type": ("character varying(20)", False, None),
        "status": ("character varying(20)", False, None),
        "created_at": ("timestamp with time zone", False, NOW),
        "updated_at": ("timestamp with time zone", False, NOW),
    },
    "settings": {
        "id": ("uuid", False, None),
        "user_id": ("uuid", False, None),
        "key": ("character varying(50)", False, None),
        "value": ("jsonb", False, None),
        "updated_at": ("timestamp with time zone", False, NOW),
    },
    "refresh_tokens": {
        "id": ("uuid", False, None),
        "user_id": ("uuid", False, None),
        "token": ("character varying(255)", False, None),
        "expires_at": ("timestamp with time zone", False, None),
        "created_at": ("timestamp with time zone", False, NOW),
        "revoked": ("boolean", False, "false"),
        "revoked_at": ("timestamp with time zone", True, None),
    },
}
ADDED = {"users": {"email_index"}, "refresh_tokens": {"family_id"}}
# Columns of policies that narrow what an indexed column of the same policy has found, and have few values.
NARROWING = {
    ("chat.users", "is_active"),
    ("chat.relationships", "type"),
    ("chat.refresh_tokens", "revoked"),
}

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
FOREIGN_KEYS = """
SELECT n.nspname || '.' || c.relname, a.attname
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = o.conkey[1]
WHERE o.contype = 'f' AND n.nspname = 'chat'
"""
POLICY_COLUMNS = """
SELECT DISTINCT n.nspname || '.' || c.relname, a.attname
FROM pg_depend d JOIN pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid AND d.refobjid = p.polrelid
JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE d.refclassid = 'pg_class'::regclass AND n.nspname = 'chat'
"""
LEADING = """
SELECT n.nspname || '.' || c.relname, a.attname
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE i.indisvalid AND i.indpred IS NULL
"""


def test_every_table_of_the_plan_is_there(declared: Declared) -> None:
    assert {f"chat.{table}" for table in PLAN} <= set(declared.tables)


@pytest.mark.parametrize("table", PLAN)
def test_columns_are_those_of_the_plan(connect: Connect, table: str) -> None:
    with connect() as session:
        found = {name: tuple(rest) for name, *rest in session.execute(COLUMNS, [f"chat.{table}"])}
    assert found.keys() - PLAN[table].keys() == ADDED.get(table, set())
    assert {name: found[name] for name in PLAN[table]} == PLAN[table]


def test_every_foreign_key_and_policy_column_leads_an_index(connect: Connect) -> None:
    with connect() as session:
        foreign, policy, leading = ({*session.execute(query)} for query in (FOREIGN_KEYS, POLICY_COLUMNS, LEADING))
    assert len(foreign) == 5
    assert policy >= NARROWING
    assert (foreign | policy) - NARROWING <= leading


@pytest.mark.parametrize("table", [name for name, columns in PLAN.items() if "updated_at" in columns])
def test_the_database_keeps_updated_at(connect: Connect, register: Callable[[str], Any], table: str) -> None:
    user, other = register("ann"), register("bob")
    with connect() as session, session.transaction(force_rollback=True):
        session.execute(
            "INSERT INTO chat.relationships (id, user_id, related_user_id, type, status)"
            " VALUES (gen_random_uuid(), %s, %s, 'friend', 'pending')",
            [user, other],
        )
        session.execute(
            "INSERT INTO chat.settings (id, user_id, key, value) VALUES (gen_random_uuid(), %s, 'a', '1')", [user]
        )
        column = "id" if table == "users" else "user_id"
        changed = session.execute(
            f"UPDATE chat.{table} SET updated_at = '2000-01-01', {column} = {column} WHERE {column} = %s"
            " RETURNING updated_at = now()",
            [user],
        )
        assert changed.fetchall() == [(True,)]
