"""Inside tables: broken by hand, the plan names table and part, apply mends it or says why it must not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest
import yaml

from dbkeep import postgresql
from dbkeep.plan import ApplyError, Change, Risk
from dbkeep.postgresql import Declared, shape
from dbkeep.settings import PostgreSQLSettings

Connect = Callable[..., psycopg.Connection[tuple[Any, ...]]]
Register = Callable[[str], UUID]


class Break(NamedTuple):
    name: str
    sql: str
    kind: str
    target: str
    destructive: bool = False
    refused: str = ""
    mend: str = ""


FILE = Path(__file__).with_name("table_breaks.yml")
BREAKS = [Break(**case) for case in yaml.safe_load(FILE.read_text(encoding="utf-8"))]


class World(NamedTuple):
    """The server as declared, with what a test needs to plan and apply again."""

    server: PostgreSQLSettings
    declared: Declared
    secrets: dict[str, str]

    def plan(self) -> list[Change]:
        return list(postgresql.plan(self.server, self.declared, self.secrets))

    def apply(self, *, allow_destructive: bool = False) -> list[Change]:
        done = postgresql.apply(self.server, self.declared, self.secrets, allow_destructive=allow_destructive)
        return list(done)


@pytest.fixture
def world(server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]) -> Iterator[World]:
    """Every test starts and ends as declared, with the shape that the migrations made."""
    here = World(server, declared, secrets)
    before = _shape(here)
    yield here
    assert here.plan() == []
    assert _shape(here) == before


def _shape(world: World) -> shape.Shape:
    with postgresql.connect(world.server) as connection:
        return shape.live(connection, world.declared.scope.protected_schemas)


@pytest.mark.parametrize("case", BREAKS, ids=[case.name for case in BREAKS])
def test_break_is_named_and_mended(case: Break, world: World, connect: Connect, register: Register) -> None:
    register("ann")
    with connect() as session:
        session.execute(case.sql)
    try:
        found = {(change.kind, change.target): change for change in world.plan()}
        assert (case.kind, case.target) in found
        if case.refused:
            assert re.search(case.refused, found[case.kind, case.target].refused or "")
            with pytest.raises(ApplyError, match=case.refused):
                world.apply()
        if case.destructive:
            world.apply()
            assert {change.risk for change in world.plan()} == {Risk.DESTRUCTIVE}
    finally:
        if case.mend:
            with connect() as session:
                session.execute(case.mend)
        world.apply(allow_destructive=True)
        with connect() as session:
            session.execute("DROP SCHEMA IF EXISTS other CASCADE")


class Rows(NamedTuple):
    name: str
    breaks: str
    rows: str
    target: str
    mend: str


ROWS = [
    Rows(
        "check",
        "ALTER TABLE chat.profiles DROP CONSTRAINT profiles_bio_is_short",
        "UPDATE chat.profiles SET bio = repeat('x', 2001) WHERE user_id = ANY(%s)",
        "constraint chat.profiles: profiles_bio_is_short",
        "UPDATE chat.profiles SET bio = NULL",
    ),
    Rows(
        "not null",
        "ALTER TABLE chat.users ALTER COLUMN email DROP NOT NULL",
        "UPDATE chat.users SET email = NULL WHERE id = ANY(%s)",
        "column chat.users: email",
        "UPDATE chat.users SET email = 'e1:x' WHERE email IS NULL",
    ),
    Rows(
        "foreign key",
        "ALTER TABLE chat.profiles DROP CONSTRAINT profiles_user_id_fkey",
        "UPDATE chat.profiles SET user_id = gen_random_uuid() WHERE user_id = ANY(%s)",
        "constraint chat.profiles: profiles_user_id_fkey",
        "DELETE FROM chat.profiles WHERE user_id NOT IN (SELECT id FROM chat.users)",
    ),
    Rows(
        "unique constraint",
        "ALTER TABLE chat.users DROP CONSTRAINT users_username_key",
        "UPDATE chat.users SET username = 'twice' WHERE id = ANY(%s)",
        "constraint chat.users: users_username_key",
        "UPDATE chat.users SET username = id::text WHERE username = 'twice'",
    ),
    Rows(
        "unique index",
        "DROP INDEX chat.relationships_one_friendship_per_pair",
        "INSERT INTO chat.relationships (id, user_id, related_user_id, type, status)"
        " SELECT gen_random_uuid(), a, b, 'friend', 'accepted' FROM unnest(%s::uuid[]) a, unnest(%s::uuid[]) b"
        " WHERE a <> b",
        "index chat.relationships: relationships_one_friendship_per_pair",
        "DELETE FROM chat.relationships",
    ),
]


@pytest.mark.parametrize("case", ROWS, ids=[case.name for case in ROWS])
def test_what_rows_break_is_refused_with_their_number(
    case: Rows, world: World, connect: Connect, register: Register
) -> None:
    pair = [register("ann"), register("bob")]
    with connect() as session:
        session.execute(case.breaks)
        session.execute(case.rows, [pair] * case.rows.count("%s"))
    try:
        (change,) = [change for change in world.plan() if f"{change.kind} {change.target}" == case.target]
        match = re.fullmatch(r"2 rows break it, such as (\S+), (\S+): mend them first", change.refused or "")
        assert match, change.refused
        assert {UUID(match[1]), UUID(match[2])} <= _keys(connect, change.target.split(":")[0])
        with pytest.raises(ApplyError, match="2 rows break it"):
            world.apply()
    finally:
        with connect() as session:
            session.execute(case.mend)
        world.apply()


def _keys(connect: Connect, table: str) -> set[UUID]:
    with connect() as session:
        return {key for (key,) in session.execute(f"SELECT id FROM {table}")}


def test_a_foreign_key_that_was_off_is_checked_before_it_is_on(world: World, connect: Connect) -> None:
    orphan = uuid4()
    with connect() as session:
        session.execute("ALTER TABLE chat.settings DISABLE TRIGGER ALL")
        session.execute(
            "INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, 'a', '1')", [orphan, uuid4()]
        )
    try:
        with pytest.raises(ApplyError, match=f"settings_user_id_fkey: 1 row breaks it, such as {orphan}: mend"):
            world.apply()
    finally:
        with connect() as session:
            session.execute("DELETE FROM chat.settings WHERE id = %s", [orphan])
        world.apply()


def test_lost_column_is_refused_with_what_needs_it(world: World, connect: Connect) -> None:
    with connect() as session, session.transaction(force_rollback=True):
        session.execute("ALTER TABLE chat.refresh_tokens DROP COLUMN family_id")
        found = shape.live(session, ["chat"])
    recorded = _shape(world)
    assert set(shape.differences(recorded, found)) == {
        ("chat.refresh_tokens", ("column", "family_id")),
        ("chat.refresh_tokens", ("index", "refresh_tokens_family_id_idx")),
    }
    with connect() as session:
        session.execute("ALTER TABLE chat.refresh_tokens RENAME COLUMN family_id TO lost")
    try:
        refused = {change.target: change.refused for change in world.plan() if change.refused}
        assert "restore it from a backup, as uuid NOT NULL" in (refused["chat.refresh_tokens: family_id"] or "")
        assert (
            refused["chat.refresh_tokens: refresh_tokens_family_id_idx"] == "needs column family_id, which is missing"
        )
    finally:
        with connect() as session:
            session.execute("ALTER TABLE chat.refresh_tokens RENAME COLUMN lost TO family_id")


def test_declared_table_that_no_migration_made_is_refused(world: World, connect: Connect) -> None:
    with connect() as session:
        session.execute("UPDATE migration.shape SET tables = tables - 'chat.settings'")
    try:
        (change,) = world.plan()
        assert (change.kind, change.target) == ("table", "chat.settings")
        assert "no applied migration made it" in (change.refused or "")
    finally:
        with connect() as session:
            session.execute("DROP TABLE migration.shape")
        world.apply()


def test_installation_without_recorded_shapes_gets_them(world: World, connect: Connect) -> None:
    with connect() as session:
        session.execute("DROP TABLE migration.shape")
    shape, grant = planned = world.plan()
    assert (shape.kind, shape.target, shape.risk) == ("shape", world.declared.migrations[-1].id, Risk.SAFE)
    assert (grant.kind, grant.target) == ("grant", "table migration.shape: chat_backup")
    assert world.apply() == planned
    with connect() as session:
        owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'migration.shape'::regclass"
        assert session.execute(owner).fetchone() == ("chat_owner",)


def test_number_of_queries_does_not_grow_with_the_differences(world: World, servers: Path, connect: Connect) -> None:
    def statements() -> int:
        log = servers / "server" / "postgresql.log"
        before = log.stat().st_size
        world.plan()
        with log.open(encoding="utf-8") as text:
            text.seek(before)
            return sum("LOG:  " in line for line in text)

    clean = statements()
    with connect() as session:
        session.execute("ALTER TABLE chat.users DISABLE TRIGGER ALL; ALTER TABLE chat.users SET (fillfactor = 50)")
        session.execute("CREATE INDEX a ON chat.users (id); CREATE INDEX b ON chat.users (id)")
        session.execute("DROP INDEX chat.users_created_at_idx, chat.refresh_tokens_user_id_idx")
    broken = statements()
    world.apply()
    # Rows could break five foreign keys: one query for each tells.
    assert broken == clean + 5
