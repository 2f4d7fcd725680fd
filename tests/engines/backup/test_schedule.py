"""A line of a crontab does its work in a real shell, on a real server: alone, quietly, and loud when it fails."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbkeep.backup.controller.schedule import Job, cron_line
from dbkeep.backup.lock import hold
from dbkeep.postgresql.connect import connect
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

INSERT = "INSERT INTO ran VALUES ('50 %')"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PostgreSQLSettings]:
    with sandbox.start(folder / "pg") as settings:
        with connect(settings, "postgres") as connection:
            connection.execute("CREATE TABLE public.ran (what text)")
        yield settings


def job(server: PostgreSQLSettings, mark: Path, statement: str = INSERT) -> Job:
    reach = f"psql -h {server.socket_directory} -p {server.port} -U postgres -v ON_ERROR_STOP=1 -d postgres"
    command = f"cat >/dev/null; {reach} -c {shlex.quote(statement)}"
    return Job("backup", "chat1", "*-*-* 02:00:00 UTC", 2, command, request="{}", marks_failure=str(mark))


def run(line: str) -> subprocess.CompletedProcess[str]:
    """Do what cron does: five fields off, the escaped percent signs back, the rest to a shell (crontab(5))."""
    command = line.split(" ", 5)[5].replace(r"\%", "%")
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)


def rows(server: PostgreSQLSettings) -> list[str]:
    with connect(server, "postgres") as connection:
        return [row[0] for row in connection.execute("SELECT what FROM public.ran").fetchall()]


def test_a_line_runs_once_and_says_nothing(server: PostgreSQLSettings, tmp_path: Path) -> None:
    done = run(cron_line(job(server, tmp_path / "FAILED"), str(tmp_path)))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert rows(server) == ["50 %"]
    assert not (tmp_path / "FAILED").exists()


def test_a_failure_is_printed_for_the_mail_and_leaves_its_mark(server: PostgreSQLSettings, tmp_path: Path) -> None:
    done = run(cron_line(job(server, tmp_path / "FAILED", "SELECT 1 FROM not_there"), str(tmp_path)))
    assert done.returncode == 1
    assert 'relation "not_there" does not exist' in done.stdout
    assert (tmp_path / "FAILED").exists()


def test_a_second_run_does_not_start_beside_the_first(server: PostgreSQLSettings, tmp_path: Path) -> None:
    before = rows(server)
    with hold(tmp_path / "dbkeep-backup.lock", "the first"):
        done = run(cron_line(job(server, tmp_path / "FAILED"), str(tmp_path)))
    assert done.returncode == 75
    assert rows(server) == before
    assert (tmp_path / "FAILED").exists()
