"""PgBouncer in transaction mode before one server connection: every client gets the session of the one before it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.1"
READY_SECONDS = 10
CONFIGURATION = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = 1
"""


def program() -> str | None:
    """Return the path of PgBouncer, None where it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(keywords: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Run PgBouncer before the server of `keywords` and yield the keywords that lead through it.

    Raises FileNotFoundError when it is not installed, TimeoutError when it does not answer.
    """
    path = program()
    if path is None:
        raise FileNotFoundError("pgbouncer")
    # It refuses to run as root.
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="dbkeep-pgbouncer-") as name, socket.create_server((ADDRESS, 0)) as free:
        folder, port = Path(name), int(free.getsockname()[1])
        free.close()
        _configure(folder, keywords, port, user)
        identity = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"] if user else []
        process = subprocess.Popen(
            ["setpriv", *identity, "--pdeathsig", "KILL", "--", path, "-q", str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_listens(port)
            yield {**keywords, "host": ADDRESS, "port": port}
        finally:
            process.kill()
            process.wait()


def _configure(folder: Path, keywords: Mapping[str, Any], port: int, user: pwd.struct_passwd | None) -> None:
    users = folder / "users.txt"
    files = {
        users: f'"{keywords["user"]}" "{keywords["password"]}"\n',
        folder / "pgbouncer.ini": CONFIGURATION.format(
            host=keywords["host"], server_port=keywords["port"], address=ADDRESS, port=port, users=users
        ),
    }
    for path in (folder, *files):
        if path in files:
            path.touch(mode=0o600)
            path.write_text(files[path], encoding="utf-8")
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection((ADDRESS, port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"PgBouncer does not listen after {READY_SECONDS} s") from None
            time.sleep(0.02)
        else:
            return
