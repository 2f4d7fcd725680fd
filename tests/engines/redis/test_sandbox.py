"""Throw-away servers: private, stopped on every way out, and clear when they cannot start."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.sandbox.redis import start
from dbkeep.settings import RedisInstance

from .conftest import password_file


def process_id(instance: RedisInstance) -> int:
    password = password_file(instance).read_text().strip()
    with redis.Redis(unix_socket_path=str(instance.socket), username="admin", password=password) as client:
        return int(client.info("server")["process_id"])


def test_it_listens_on_its_socket_only_and_stops(tmp_path: Path) -> None:
    with start(tmp_path) as settings:
        instance = settings.instances["state"]
        server = process_id(instance)
        assert Path(f"/proc/{server}").stat().st_uid != 0
        assert instance.socket.stat().st_mode & 0o777 == 0o700
        assert password_file(instance).stat().st_mode & 0o777 == 0o600
        status = Path(f"/proc/{server}/net/tcp").read_text()
        inodes = {str(link.readlink()) for link in Path(f"/proc/{server}/fd").iterdir()}
        assert not [line for line in status.splitlines() if f"socket:[{line.split()[9]}]" in inodes]
    assert not Path(f"/proc/{server}").exists()


def test_it_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from dbkeep.sandbox.redis import start\n"
        "with start(Path(sys.argv[1])): print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        (child,) = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text().split()
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


def test_a_bad_directive_is_quoted_from_the_log(tmp_path: Path) -> None:
    with (
        pytest.raises(DbkeepError, match=r"did not start: .*>>> 'maxmemry 1': .*see .*redis\.log"),
        start(tmp_path, {"state": {"maxmemry": "1"}}),
    ):
        pass


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long for a unix socket"), start(tmp_path / ("x" * 100)):
        pass


def test_a_missing_server_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UsageError, match="apt-get install redis-server"), start(tmp_path):
        pass


def test_damaged_data_is_refused(tmp_path: Path) -> None:
    dump = tmp_path / "dump.rdb"
    dump.write_bytes(b"REDIS0010 not a dump")
    with pytest.raises(DbkeepError, match="did not start"), start(tmp_path / "copy", data={"state": dump}):
        pass
