"""From an empty server to the declared one, and what must hold on the way."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from dbkeep import postgresql
from dbkeep.errors import UsageError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared, apply_lock
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings


def test_first_plan_holds_everything_and_apply_leaves_nothing(
    empty: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]
) -> None:
    first = postgresql.plan(empty, declared, secrets)
    kinds = {change.kind for change in first}
    assert {"role", "password", "setting", "membership", "database", "schema", "default privilege"} <= kinds
    assert {"function", "migration", "row security", "policy", "view", "grant"} <= kinds
    started = time.monotonic()
    applied = postgresql.apply(empty, declared, secrets)
    assert time.monotonic() - started < 10
    assert [change.target for change in applied] == [change.target for change in first]
    assert list(postgresql.plan(empty, declared, secrets)) == []
    assert list(postgresql.plan(empty, declared, {})) == []


def test_declared_state_survives_the_way_to_the_host(declared: Declared) -> None:
    assert Declared.model_validate_json(declared.model_dump_json()) == declared


def test_version_and_counts(server: PostgreSQLSettings) -> None:
    assert int(postgresql.version(server).split(".")[0]) >= 15
    tables = ("context_keys", "profiles", "refresh_tokens", "relationships", "settings", "users")
    assert set(postgresql.counts(server)) == {f"chat.{table}" for table in tables}


def test_passwords_work_and_never_reach_the_log(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], servers: Path
) -> None:
    def log_on(password: str) -> None:
        psycopg.connect(host="127.0.0.1", port=server.port, user="app_api", password=password, dbname="chat").close()

    log_on(secrets["app_api"])
    changed = {**secrets, "app_api": "another password"}
    plan = postgresql.plan(server, declared, changed)
    assert [(change.kind, change.target) for change in plan] == [("password", "app_api")]
    postgresql.apply(server, declared, changed)
    log_on("another password")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        log_on(secrets["app_api"])
    postgresql.apply(server, declared, secrets)
    log = (servers / "server" / "postgresql.log").read_text(encoding="utf-8")
    assert "ALTER ROLE" in log
    assert "SCRAM-SHA-256" not in log
    assert not any(password in log for password in (*secrets.values(), "another password"))
    assert "SCRAM-SHA-256" not in str(plan.as_json()) + repr(plan)


def test_role_without_a_password_in_the_vault_is_refused(
    servers: Path, declared: Declared, secrets: dict[str, str]
) -> None:
    with sandbox.start(servers / "no-secret") as settings:
        incomplete = {name: password for name, password in secrets.items() if name != "app_auth"}
        with pytest.raises(ApplyError, match=r"password app_auth: .*dbkeep init"):
            postgresql.apply(settings, declared, incomplete)
        assert len(postgresql.plan(settings, declared, secrets)) == len(postgresql.plan(settings, declared, incomplete))


def test_killed_apply_is_finished_by_the_next(servers: Path, declared: Declared, secrets: dict[str, str]) -> None:
    """SIGKILL at moments spread over the run: what was done stays, what was not is in the next plan."""
    program = """
import json, sys
from dbkeep import postgresql
from dbkeep.settings import PostgreSQLSettings
settings, declared, secrets = json.load(sys.stdin)
postgresql.apply(PostgreSQLSettings(**settings), postgresql.Declared.model_validate(declared), secrets,
                 on_change=lambda change: print(change.kind, flush=True))
"""
    with sandbox.start(servers / "killed") as settings:
        payload = f"[{settings.model_dump_json()}, {declared.model_dump_json()}, {json.dumps(secrets)}]".encode()
        total = len(postgresql.plan(settings, declared, secrets))
        for stop_after in (1, total // 6, total // 6):
            with subprocess.Popen(
                [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(payload)
                process.stdin.close()
                for _ in range(stop_after):
                    assert process.stdout.readline()
                process.kill()
        left = postgresql.plan(settings, declared, secrets)
        assert 0 < len(left) < total
        postgresql.apply(settings, declared, secrets)
        assert list(postgresql.plan(settings, declared, secrets)) == []


def test_two_applies_do_not_meet(server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]) -> None:
    with (
        postgresql.connect(server, "postgres") as other,
        other.transaction(),
    ):
        other.execute("SELECT pg_advisory_xact_lock(%s)", [apply_lock.KEY])
        with pytest.raises(UsageError, match="another apply is running"):
            postgresql.apply(server, declared, secrets)


def test_edited_and_lost_migrations_are_refused(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]
) -> None:
    first, *rest = declared.migrations
    edited = declared.model_copy(update={"migrations": (first.model_copy(update={"sql": first.sql + "-- x"}), *rest)})
    with pytest.raises(ApplyError, match=r"0001_users: sql/migrations/0001_users.sql was edited after it was applied"):
        postgresql.apply(server, edited, secrets)
    with pytest.raises(ApplyError, match="0001_users: it was applied and its file is missing"):
        postgresql.apply(server, declared.model_copy(update={"migrations": tuple(rest)}), secrets)


def test_failing_migration_leaves_nothing(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]
) -> None:
    bad = declared.migrations[0].model_copy(
        update={
            "id": "0099_bad",
            "path": "sql/migrations/0099_bad.sql",
            "sql": "CREATE TABLE chat.half (id int);\nALTER TABLE chat.nothing ADD x int;\n",
        }
    )
    more = declared.model_copy(update={"migrations": (*declared.migrations, bad)})
    with pytest.raises(ApplyError, match=r'sql/migrations/0099_bad.sql: relation "chat.nothing" does not exist'):
        postgresql.apply(server, more, secrets)
    assert list(postgresql.plan(server, declared, secrets)) == []


def test_index_built_outside_a_transaction(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]
) -> None:
    concurrent = declared.migrations[0].model_copy(
        update={
            "id": "0098_index",
            "path": "sql/migrations/0098_index.sql",
            "sql": "-- transactional: false\n\nCREATE INDEX CONCURRENTLY users_probe ON chat.users (is_verified);\n",
        }
    )
    more = declared.model_copy(update={"migrations": (*declared.migrations, concurrent)})
    applied = postgresql.apply(server, more, secrets)
    assert [change.target for change in applied] == ["0098_index"]
    assert list(postgresql.plan(server, more, secrets)) == []
    with postgresql.connect(server) as session:
        session.execute("DROP INDEX chat.users_probe")
        session.execute("DELETE FROM migration.digest WHERE migration_id = '0098_index'")
        session.execute("DELETE FROM migration._yoyo_migration WHERE migration_id = '0098_index'")
