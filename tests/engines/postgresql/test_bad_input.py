"""Bad input and bad moments: one exact line, nothing half-applied, and the next run converges."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import yaml

from dbkeep import postgresql
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.plan import ApplyError, Change
from dbkeep.postgresql import Declared
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

ROOT = Path(__file__).parents[3]
Connect = Callable[..., psycopg.Connection[tuple[Any, ...]]]


class Mistake(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    message: str
    late: bool = False


MISTAKES = [
    Mistake(**case) for case in yaml.safe_load(Path(__file__).with_name("mistakes.yml").read_text(encoding="utf-8"))
]


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[Mistake], Path]:
    """Makes a copy of sql/ with the mistake in it and returns the folder that holds it."""

    def edit(mistake: Mistake) -> Path:
        shutil.copytree(ROOT / "sql", tmp_path / "sql")
        path = tmp_path / "sql" / mistake.file
        text = path.read_text(encoding="utf-8")
        assert mistake.old in text
        path.write_text(text.replace(mistake.old, mistake.new, 1), encoding="utf-8")
        return tmp_path

    return edit


def _message(error: pytest.ExceptionInfo[BaseException], root: Path) -> str:
    """The error without what differs from run to run: the folder, and line numbers of roles.yml."""
    text = str(error.value).replace(f"{root}/", "")
    return re.sub(r"(roles\.yml):\d+", r"\1:N", text)


def _everything(settings: PostgreSQLSettings) -> list[tuple[Any, ...]]:
    """The row versions of the catalogs that a change of ours can touch."""
    catalogs = ("pg_authid", "pg_auth_members", "pg_database", "pg_db_role_setting")
    query = " UNION ALL ".join(f"SELECT '{name}', xmin::text, ctid::text FROM {name}" for name in catalogs)
    with postgresql.connect(settings, "postgres") as session:
        return sorted(session.execute(query.encode()).fetchall())


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
def test_a_mistake_is_one_line_and_changes_nothing(
    *,
    mistake: Mistake,
    edited: Callable[[Mistake], Path],
    blank: PostgreSQLSettings,
    server: PostgreSQLSettings,
    declared: Declared,
    secrets: dict[str, str],
) -> None:
    root = edited(mistake)
    for settings in (server,) if mistake.late else (server, blank):
        before = _everything(settings)
        with pytest.raises((UsageError, ApplyError)) as caught:
            postgresql.apply(settings, postgresql.read_declared(root), secrets)
        assert _message(caught, root) == mistake.message
        assert _everything(settings) == before
    assert list(postgresql.plan(server, declared, secrets)) == []


@pytest.fixture(scope="module")
def blank(servers: Path) -> Iterator[PostgreSQLSettings]:
    """A server on which no apply has succeeded."""
    with sandbox.start(servers / "blank") as settings:
        yield settings


def test_a_version_that_is_not_supported(servers: Path, declared: Declared) -> None:
    with sandbox.start(servers / "old", version=14) as settings:
        with pytest.raises(UsageError) as caught:
            postgresql.apply(settings, declared, {})
        with psycopg.connect(
            host=str(settings.socket_directory), port=settings.port, user="postgres", dbname="postgres"
        ) as session:
            assert session.execute("SELECT count(*) FROM pg_roles WHERE rolname ~ '^(chat|app)_'").fetchone() == (0,)
    where = f"PostgreSQL on {settings.socket_directory} port {settings.port}"
    assert str(caught.value) == f"{where} is version 14: dbkeep manages 15 to 18"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 1}, "cannot connect to PostgreSQL on {socket} port 1 as postgres: "),
        ({"user": "nobody_here"}, "cannot connect to PostgreSQL on {socket} port {port} as nobody_here: "),
    ],
)
def test_a_server_that_cannot_be_used(
    server: PostgreSQLSettings, declared: Declared, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        postgresql.plan(server.model_copy(update=change), declared, {})
    assert str(caught.value).startswith(message.format(socket=server.socket_directory, port=server.port))
    assert "\n" not in str(caught.value)


def test_a_pending_grant_on_a_missing_column_names_its_line(
    servers: Path, edited: Callable[[Mistake], Path], declared: Declared, secrets: dict[str, str]
) -> None:
    """On a new server only the migrations tell what columns there are: apply stops at the grant, a rerun converges."""
    mistake = next(mistake for mistake in MISTAKES if mistake.name == "grant on a missing column")
    wrong = postgresql.read_declared(edited(mistake))
    with sandbox.start(servers / "column") as settings:
        with pytest.raises(ApplyError, match=r'sql/roles\.yml:\d+: column "nick" of relation "users" does not exist$'):
            postgresql.apply(settings, wrong, secrets)
        postgresql.apply(settings, declared, secrets)
        assert list(postgresql.plan(settings, declared, secrets)) == []


def _end_all_sessions(settings: PostgreSQLSettings) -> None:
    with psycopg.connect(
        host=str(settings.socket_directory), port=settings.port, user="postgres", dbname="template1", autocommit=True
    ) as session:
        session.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


def test_a_connection_lost_between_changes(servers: Path, declared: Declared, secrets: dict[str, str]) -> None:
    with sandbox.start(servers / "lost") as settings:
        total = left = len(postgresql.plan(settings, declared, secrets))
        for moment in (1, total // 8, total // 4, total // 4):
            made: list[Change] = []

            def cut(change: Change, made: list[Change] = made, moment: int = moment) -> None:
                made.append(change)
                if len(made) == moment:
                    _end_all_sessions(settings)

            with pytest.raises(ApplyError) as caught:
                postgresql.apply(settings, declared, secrets, on_change=cut)
            assert re.fullmatch(
                r"postgresql \w[a-z ]+ .*: terminating connection due to administrator command"
                r": run the same command again",
                str(caught.value),
            )
            assert len(made) == moment
            remaining = len(postgresql.plan(settings, declared, secrets))
            assert remaining < left
            left = remaining
        postgresql.apply(settings, declared, secrets)
        assert list(postgresql.plan(settings, declared, secrets)) == []


def test_a_connection_lost_at_any_moment(servers: Path, declared: Declared, secrets: dict[str, str]) -> None:
    """Sessions are ended while plans and changes run, until apply gets through in spite of it."""
    with sandbox.start(servers / "cut") as settings:
        quiet = threading.Event()

        def cut() -> None:
            while not quiet.wait(0.3):
                _end_all_sessions(settings)

        thread = threading.Thread(target=cut)
        thread.start()
        failures = []
        try:
            for _ in range(10):
                try:
                    postgresql.apply(settings, declared, secrets)
                    break
                except DbkeepError as error:
                    failures.append(str(error))
        finally:
            quiet.set()
            thread.join()
        assert failures
        assert not [failure for failure in failures if "\n" in failure]
        postgresql.apply(settings, declared, secrets)
        assert list(postgresql.plan(settings, declared, secrets)) == []
