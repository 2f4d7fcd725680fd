"""`dbkeep migrate` as it is typed, with the agent beside it in place of SSH."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dbkeep import postgresql
from dbkeep.cli import cli
from dbkeep.commands import agent_migrate, migrate
from dbkeep.commands.agent import agent_group
from dbkeep.errors import UsageError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def ours(servers: Path, declared: Declared, secrets: dict[str, str]) -> Iterator[PostgreSQLSettings]:
    with sandbox.start(servers / "command") as settings:
        postgresql.apply(settings, declared, secrets)
        yield settings


@pytest.fixture
def run(ours: PostgreSQLSettings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `dbkeep migrate WORDS`; an error is the result's exception, as the real main() gets it."""

    def call(_: Any, words: Sequence[str], request: dict[str, Any], **_more: Any) -> dict[str, Any]:
        done = CliRunner().invoke(agent_group, list(words), input=json.dumps(request))
        if done.exception:
            raise done.exception
        return dict(json.loads(done.stdout))

    monkeypatch.setattr(migrate, "read_environment", lambda _: SimpleNamespace(variables={}))
    monkeypatch.setattr(migrate, "engine_hosts", lambda *_: [("postgresql", SimpleNamespace(name="db1"))])
    monkeypatch.setattr(migrate, "call", call)
    monkeypatch.setattr(agent_migrate, "required_settings", lambda _: ours)
    return lambda *words: CliRunner().invoke(cli, ["migrate", *words])


def test_status_down_sql_and_up(run: Run, declared: Declared) -> None:
    clean = run("status")
    assert clean.exit_code == 0
    assert re.search(r"0005_refresh_tokens +applied +\d{4}-", clean.stdout)

    refused = run("down", "--to", "0004_settings")
    assert refused.exit_code == 1
    assert "held back until --allow-destructive" in refused.stdout
    assert "take back: removes chat.refresh_tokens (0 rows)" in refused.stdout
    assert "DROP TABLE chat.refresh_tokens" in refused.stdout
    assert run("status").exit_code == 0

    done = run("down", "--to", "0003_relationships", "--allow-destructive", "--json")
    assert done.exit_code == 0
    assert [change["target"] for change in json.loads(done.stdout)["applied"]] == [
        migration.id for migration in reversed(declared.migrations[3:])
    ]

    pending = run("status", "--json")
    assert pending.exit_code == 1
    states = {entry["id"]: entry["state"] for entry in json.loads(pending.stdout)["migrations"]}
    assert (states["0003_relationships"], states["0004_settings"]) == ("applied", "pending")

    review = run("sql")
    assert review.exit_code == 0
    assert "-- line 3: CREATE TABLE chat.settings: SHARE ROW EXCLUSIVE on chat.users: writes wait" in review.stdout
    assert "CREATE TABLE chat.users" not in review.stdout

    part = run("up", "--to", "0004_settings")
    assert (part.exit_code, "db1: 1 changes applied" in part.stdout) == (0, True)
    rest = run("up", "--json")
    assert [change["target"] for change in json.loads(rest.stdout)["applied"]] == [
        m.id for m in declared.migrations[4:]
    ]
    assert run("status").exit_code == 0


def test_sql_of_all_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "call", None)
    every = CliRunner().invoke(cli, ["migrate", "sql", "--all", "--json"])
    assert json.loads(every.stdout)["migrations"][0]["id"] == "0001_users"
    one = CliRunner().invoke(cli, ["migrate", "sql", "0002_profiles", "--rollback"])
    assert "ACCESS EXCLUSIVE on chat.profiles: reads and writes wait" in one.stdout


def test_errors_reach_the_command(run: Run, ours: PostgreSQLSettings) -> None:
    assert isinstance(run("up", "--to", "9_x").exception, UsageError)
    assert isinstance(run("sql", "9_x").exception, UsageError)
    with postgresql.connect(ours) as connection:
        connection.execute("UPDATE migration.digest SET sha256 = 'x' WHERE migration_id = '0002_profiles'")
    try:
        status = run("status")
        assert status.exit_code == 1
        assert re.search(r"0002_profiles +edited", status.stdout)
        assert isinstance(run("up").exception, ApplyError)
        assert isinstance(run("down", "--to", "0001_users").exception, UsageError)
    finally:
        with postgresql.connect(ours) as connection:
            digest = postgresql.read_declared(Path(__file__).parents[3]).migrations[1].digest
            connection.execute("UPDATE migration.digest SET sha256 = '" + digest + "' WHERE migration_id LIKE '0002%'")
