"""A throw-away PostgreSQL server in a folder: tests, drills and `dbkeep sandbox` use it.

It listens on a unix socket in a directory that only its operating system user (and root) can enter, so the socket
trusts every role. PostgreSQL refuses to run as root; started by root, the server runs as the owner of its folder.
The kernel ends the server when the process that started it dies, so a killed test leaves nothing behind.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.sandbox import postgresql_packages
from dbkeep.settings import PostgreSQLSettings

DEBIAN_BINARIES = Path("/usr/lib/postgresql")
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
# A unix socket's address has 108 bytes, the last one NUL (unix(7)).
LONGEST_SOCKET_PATH = 107
# Recovery stops when a standby has less of these than the server that wrote the WAL had (manual, 27.4.3 "Hot Standby").
AT_LEAST_AS_ON_ORIGIN = (
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_xacts",
    "max_locks_per_xact",
)
CONTROL_FILE_NAMES = {
    "max_prepared_xacts": "max_prepared_transactions",
    "max_locks_per_xact": "max_locks_per_transaction",
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one server lives and who runs it. `user` is None when the server runs as the caller."""

    folder: Path
    data: Path
    binaries: Path
    user: pwd.struct_passwd | None

    @property
    def log(self) -> Path:
        return self.folder / "postgresql.log"

    @property
    def socket_directory(self) -> Path:
        return self.folder / "socket"

    def command(self, program: str, *arguments: str) -> list[str]:
        return ["setpriv", *_identity(self.user), "--pdeathsig", "INT", "--", str(self.binaries / program), *arguments]

    def give(self, path: Path, mode: int) -> None:
        """Make the server's user the owner of `path`."""
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        path.chmod(mode)


def find_binaries(version: int | None = None) -> Path:
    """Return the folder with initdb and postgres of major `version`, or of the newest one that Debian installed.

    Raises UsageError when there is none.
    """
    found = {int(path.parent.parent.name): path.parent for path in DEBIAN_BINARIES.glob("[0-9]*/bin/postgres")}
    if version is None and found:
        return found[max(found)]
    if version not in found:
        found = postgresql_packages.binaries()
    if version in found:
        return found[version]
    name = f"postgresql-{version}" if version else "postgresql"
    raise UsageError(
        f"no PostgreSQL {version or ''} server under {DEBIAN_BINARIES}: install the Debian package {name}; tests get"
        " other versions from `./dbkeep test`"
    )


@contextmanager
def start(
    folder: Path,
    *,
    data_directory: Path | None = None,
    version: int | None = None,
    port: int = 5432,
    listen_addresses: str = "",
    fast: bool = True,
    options: Mapping[str, str] | None = None,
    include_directory: Path | None = None,
    timeout: float = 60,
) -> Iterator[PostgreSQLSettings]:
    """Start a server in `folder` (made if missing, left in place on exit), yield how to reach it, stop it on exit.

    `data_directory` is an existing one, such as a restored backup: recovery runs to its end (at most `timeout`
    seconds); without it a new cluster is made. `listen_addresses` adds TCP with SCRAM-SHA-256. Nothing is archived
    unless `options`, which are further server settings, turn it on. All these are on the server's command line, so no
    file overrides them; the files of `include_directory` say the rest. `fast` gives up crash safety. The superuser is
    `postgres`.

    Raises UsageError when the server is not installed or cannot use the folder, DbkeepError when it does not start.
    """
    place = _place(folder, data_directory, version)
    if data_directory is None:
        _initialise(place)
    _write(place, "pg_hba.conf", "local all,replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    _write(place, "pg_ident.conf", "")
    _write(place, "postgresql.conf", f"include_dir = '{include_directory}'\n" if include_directory else "")
    settings = {
        "archive_mode": "off",
        **(FAST if fast else {}),
        **(_origin_settings(place) if data_directory else {}),
        **(options or {}),
        "port": str(port),
        "listen_addresses": listen_addresses,
        "unix_socket_directories": str(place.socket_directory),
        "config_file": str(place.folder / "postgresql.conf"),
        "hba_file": str(place.folder / "pg_hba.conf"),
        "ident_file": str(place.folder / "pg_ident.conf"),
    }
    arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    with place.log.open("ab") as log:
        server = subprocess.Popen(
            place.command("postgres", "-D", str(place.data), *arguments),
            cwd=place.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        reached = PostgreSQLSettings(socket_directory=place.socket_directory, port=port)
        _wait_until_ready(server, place, reached, timeout)
        yield reached
    finally:
        _stop(server)


def _place(folder: Path, data_directory: Path | None, version: int | None) -> _Place:
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data_directory is None:
        data = folder / "data"
    else:
        data = data_directory.absolute()
        try:
            version = int((data / "PG_VERSION").read_text(encoding="ascii"))
        except (OSError, ValueError):
            raise UsageError(f"{data}: not a PostgreSQL data directory (no PG_VERSION)") from None
    place = _Place(folder, data, find_binaries(version), _user(data if data_directory else folder))
    if len(bytes(place.socket_directory)) + len("/.s.PGSQL.65535") > LONGEST_SOCKET_PATH:
        raise UsageError(f"{folder}: too long for a unix socket: use a shorter path")
    place.socket_directory.mkdir(exist_ok=True)
    for path in (folder, place.socket_directory):
        place.give(path, 0o700)
    if place.user:
        _require_reachable(folder, place.user)
    return place


def _user(owned: Path) -> pwd.struct_passwd | None:
    """The unprivileged user that runs the server: nobody else when the caller is not root."""
    if os.geteuid() != 0:
        return None
    owner = owned.stat().st_uid
    if owner != 0:
        return pwd.getpwuid(owner)
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in users:
            return users[name]
    raise UsageError("PostgreSQL does not run as root and neither user postgres nor nobody exists: make one")


def _identity(user: pwd.struct_passwd | None) -> list[str]:
    return ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--init-groups"] if user else []


def _require_reachable(folder: Path, user: pwd.struct_passwd) -> None:
    reach = subprocess.run(["setpriv", *_identity(user), "--", "test", "-x", str(folder)], check=False)
    if reach.returncode != 0:
        raise UsageError(
            f"{folder}: user {user.pw_name} cannot enter it: use a folder whose parents it may enter (mode o+x)"
        )


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _initialise(place: _Place) -> None:
    if place.data.exists():
        return
    made = subprocess.run(
        place.command(
            "initdb",
            "--pgdata",
            str(place.data),
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
            "--auth=trust",
            "--no-sync",
            "--no-instructions",
        ),
        cwd=place.folder,
        env=_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        shutil.rmtree(place.data, ignore_errors=True)
        raise DbkeepError(f"initdb failed in {place.folder}: {_last_line(made.stderr)}")


def _write(place: _Place, name: str, text: str) -> None:
    path = place.folder / name
    path.write_text(text, encoding="utf-8")
    place.give(path, 0o600)


def _origin_settings(place: _Place) -> dict[str, str]:
    control = subprocess.run(
        place.command("pg_controldata", str(place.data)),
        cwd=place.folder,
        env=_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    if control.returncode != 0:
        raise UsageError(f"{place.data}: not usable as a data directory: {_last_line(control.stderr)}")
    found = dict(re.findall(r"^(\w+) setting:\s+(\d+)$", control.stdout, re.MULTILINE))
    return {CONTROL_FILE_NAMES.get(name, name): found[name] for name in AT_LEAST_AS_ON_ORIGIN if name in found}


def _wait_until_ready(
    server: subprocess.Popen[bytes], place: _Place, reached: PostgreSQLSettings, timeout: float
) -> None:
    deadline = time.monotonic() + timeout
    problem = "no answer"
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DbkeepError(
                f"PostgreSQL did not start in {place.folder}: {_last_line(place.log.read_text('utf-8', 'replace'))}"
            )
        try:
            with psycopg.connect(
                host=str(reached.socket_directory),
                port=reached.port,
                user=reached.user,
                dbname="template1",
                autocommit=True,
            ) as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
            if row == (False,):
                return
            problem = "still in recovery (a restored copy must promote at its target: recovery_target_action = promote)"
        except psycopg.OperationalError as error:
            problem = _last_line(str(error))
        time.sleep(0.05)
    raise DbkeepError(f"PostgreSQL in {place.folder} is not ready after {timeout:g} s: {problem}; see {place.log}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    # The server's fast shutdown, then its immediate one: it reaps its own processes in both (manual, "Shutting Down").
    for request in (signal.SIGINT, signal.SIGQUIT):
        server.send_signal(request)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            continue
        return


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
