"""What can be declared and sql/ of this checkout does not use: made from empty in one apply, broken, named, mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbkeep import postgresql
from dbkeep.errors import UsageError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared
from dbkeep.postgresql.models import Role
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

MIGRATION = """
CREATE TYPE chat.mood AS ENUM ('good', 'bad');
CREATE TYPE chat.span AS RANGE (subtype = int);
CREATE SEQUENCE chat.counter;
CREATE TABLE chat.numbered (id bigint GENERATED ALWAYS AS IDENTITY, old serial, mood chat.mood, during chat.span);
"""


def _with(declared: Declared, role: str, **more: Any) -> Declared:
    """The declared state with more given to one role; its grants are added to those it has."""
    have = declared.roles[role].model_dump()
    changed = {**have, **more, "grants": {**have["grants"], **more.get("grants", {})}}
    return declared.model_copy(update={"roles": {**declared.roles, role: Role.model_validate(changed)}})


def _in_scope(declared: Declared, **more: Any) -> Declared:
    return declared.model_copy(update={"scope": declared.scope.model_copy(update=more)})


def _drift(settings: PostgreSQLSettings, declared: Declared) -> set[tuple[str, str, str]]:
    return {(change.kind, change.target, change.risk.value) for change in postgresql.plan(settings, declared, {})}


@pytest.fixture(
    scope="module", params=[15, pytest.param(16, marks=pytest.mark.long), 17, pytest.param(18, marks=pytest.mark.long)]
)
def other(request: pytest.FixtureRequest, servers: Path) -> Iterator[PostgreSQLSettings]:
    """A server that another application uses too: it has a foreign server, and its own public schema."""
    with sandbox.start(servers / f"other-{request.param}", version=request.param) as settings:
        with postgresql.connect(settings, "template1") as session:
            session.execute("CREATE FOREIGN DATA WRAPPER wrapper")
            session.execute("CREATE SERVER away FOREIGN DATA WRAPPER wrapper")
        yield settings


@pytest.fixture(scope="module")
def wide(declared: Declared) -> Declared:
    """More of everything than sql/ declares."""
    migration = declared.migrations[-1].model_copy(
        update={"id": "0090_more", "path": "0090_more.sql", "sql": MIGRATION}
    )
    wide = _in_scope(
        declared,
        settings={"search_path": "chat, public", "app.strict": "on"},
        extensions={"plpgsql": "pg_catalog", "pg_trgm": "public"},
        other_objects=(
            "type chat.mood", "type chat.span", "sequence chat.counter", "server away", "foreign-data wrapper wrapper",
        ),
    ).model_copy(
        update={"migrations": (*declared.migrations, migration), "tables": (*declared.tables, "chat.numbered")}
    )  # fmt: skip
    return _with(
        wide,
        "app_api",
        settings={**wide.roles["app_api"].settings, "search_path": '""'},
        grants={
            "types": ["chat.mood"], "sequences": {"chat.counter": ["USAGE"]}, "languages": ["sql"],
            "foreign_servers": ["away"], "foreign_data_wrappers": ["wrapper"], "tablespaces": ["pg_default"],
            "parameters": {"log_statement": ["SET"]},
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(other: PostgreSQLSettings, wide: Declared, secrets: dict[str, str]) -> PostgreSQLSettings:
    postgresql.apply(other, wide, secrets)
    return other


BREAKS = [
    ("ALTER TYPE chat.mood OWNER TO app_api", "owner", "type chat.mood", "locking"),
    ("ALTER SEQUENCE chat.counter OWNER TO app_api", "owner", "sequence chat.counter", "locking"),
    ("GRANT USAGE ON TYPE chat.mood TO PUBLIC", "grant", "type chat.mood: PUBLIC", "safe"),
    ("REVOKE USAGE ON TYPE chat.mood FROM app_api", "grant", "type chat.mood: app_api", "safe"),
    ("GRANT SELECT ON SEQUENCE chat.counter TO app_auth", "grant", "sequence chat.counter: app_auth", "safe"),
    ("REVOKE USAGE ON SEQUENCE chat.counter FROM app_api", "grant", "sequence chat.counter: app_api", "safe"),
    ("GRANT USAGE ON SEQUENCE chat.numbered_old_seq TO app_auth", "grant", "sequence chat.numbered_old_seq: app_auth",
     "safe"),
    ("REVOKE USAGE ON FOREIGN SERVER away FROM app_api", "grant", "foreign server away: app_api", "safe"),
    ("REVOKE USAGE ON FOREIGN DATA WRAPPER wrapper FROM app_api", "grant", "foreign data wrapper wrapper: app_api",
     "safe"),
    ("REVOKE CREATE ON TABLESPACE pg_default FROM app_api", "grant", "tablespace pg_default: app_api", "safe"),
    ("REVOKE SET ON PARAMETER log_statement FROM app_api", "grant", "parameter log_statement: app_api", "safe"),
    ("REVOKE USAGE ON LANGUAGE sql FROM app_api", "grant", "language sql: app_api", "safe"),
    ("DROP EXTENSION pg_trgm", "extension", "pg_trgm", "safe"),
    ("DROP EXTENSION pg_trgm; CREATE EXTENSION pg_trgm SCHEMA public VERSION '1.3'", "extension", "pg_trgm", "locking"),
    ("CREATE SCHEMA IF NOT EXISTS elsewhere; ALTER EXTENSION pg_trgm SET SCHEMA elsewhere", "extension", "pg_trgm",
     "locking"),
    ("ALTER DATABASE chat SET search_path = public, chat", "setting", "every role: search_path in chat", "safe"),
    ('ALTER DATABASE chat RESET "app.strict"', "setting", "every role: app.strict in chat", "safe"),
    ("ALTER ROLE app_api RESET search_path", "setting", "app_api: search_path", "safe"),
]  # fmt: skip


def test_one_apply_makes_all_of_it(made: PostgreSQLSettings, wide: Declared) -> None:
    assert _drift(made, wide) == set()


@pytest.mark.parametrize(("sql", "kind", "target", "risk"), BREAKS, ids=[case[0] for case in BREAKS])
def test_break_is_named_and_mended(
    *, made: PostgreSQLSettings, wide: Declared, secrets: dict[str, str], sql: str, kind: str, target: str, risk: str
) -> None:
    with postgresql.connect(made) as session:
        session.execute(sql.encode())
    assert (kind, target, risk) in _drift(made, wide)
    postgresql.apply(made, wide, secrets)
    assert _drift(made, wide) == set()


def test_lost_object_is_refused(made: PostgreSQLSettings, wide: Declared, secrets: dict[str, str]) -> None:
    with postgresql.connect(made) as session:
        session.execute("ALTER SEQUENCE chat.counter RENAME TO lost")
    with pytest.raises(ApplyError, match=r"^postgresql object sequence chat.counter: every migration is applied and"):
        postgresql.apply(made, wide, secrets)
    with postgresql.connect(made) as session:
        session.execute("ALTER SEQUENCE chat.lost RENAME TO counter")
    assert _drift(made, wide) == set()


def test_options_of_a_membership(
    of_version: Callable[[int], PostgreSQLSettings], declared: Declared, secrets: dict[str, str]
) -> None:
    options = _with(
        _with(declared, "chat_migrator", member_of={"chat_owner": {"inherit": True}}),
        "chat_monitor", member_of={"pg_monitor": {"set": False}},
    )  # fmt: skip
    server = of_version(17)
    postgresql.apply(server, options, secrets)
    assert _drift(server, options) == set()
    assert {target for _, target, _ in _drift(server, declared)} == {
        "chat_migrator in chat_owner",
        "chat_monitor in pg_monitor",
    }
    postgresql.apply(server, declared, secrets)
    assert _drift(server, declared) == set()
    with pytest.raises(UsageError) as caught:
        postgresql.plan(of_version(15), options, secrets)
    assert "chat_migrator in chat_owner: PostgreSQL 15 has no option of a membership: declare none" in str(caught.value)
