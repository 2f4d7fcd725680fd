"""Throw-away Redis and Valkey servers in a folder, for tests, drills and `dbkeep sandbox`."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.statements import configuration_file
from dbkeep.sandbox import redis_packages
from dbkeep.settings import RedisInstance, RedisServer, RedisSettings

SOCKET_PATH_LIMIT = 100  # sun_path of unix(7) holds 108 bytes
START_SECONDS = 60
STOP_SECONDS = 20
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Program:
    """A server on this machine: which one, its version and the command that runs it."""

    server: RedisServer
    version: tuple[int, ...]
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TLS:
    """A TLS port on 127.0.0.1 and the files that serve it, which are copied: the server's user may not reach them."""

    port: int
    certificate: Path
    key: Path
    ca: Path


@contextmanager
def start(
    folder: Path,
    instances: Mapping[str, Mapping[str, str]] | None = None,
    *,
    data: Mapping[str, Path] | None = None,
    tls: Mapping[str, TLS] | None = None,
    memory_bytes: int = 1024 * MEBIBYTE,
    server: RedisServer = "redis",
    program: Program | None = None,
) -> Iterator[RedisSettings]:
    """Run one server per name in `instances` below `folder`, on unix sockets only, and stop them on exit.

    `instances` maps a name to extra redis.conf directives (default: one instance `state` with none). Each starts with
    the user `default` off and `admin` with a random password in a file. `data` maps a name to what it starts from: a
    dump file, or a folder with a dump.rdb or an appendonlydir, which is copied. As root the servers run as `redis`
    or `valkey`, or as `nobody` where that user does not exist. They end with the thread that started them, however that
    ends. `program` is one of `find_programs`, in place of the `server` that is installed.

    Raises UsageError when the server is missing or the folder's path is too long for a socket, and DbkeepError with
    the server's own last line when it does not start.
    """
    program = program or find_program(server)
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(
                _instance(folder / name, directives, (data or {}).get(name), (tls or {}).get(name), program)
            )
            for name, directives in (instances or {"state": {}}).items()
        }
        yield RedisSettings(
            server=program.server, command=program.command, instances=running, memory_bytes=memory_bytes
        )


@contextmanager
def _instance(
    folder: Path, directives: Mapping[str, str], data: Path | None, tls: TLS | None, program: Program
) -> Iterator[RedisInstance]:
    socket = folder / "redis.sock"
    if len(str(socket)) > SOCKET_PATH_LIMIT:
        raise UsageError(f"{socket}: too long for a unix socket; choose a shorter folder")
    password = secrets.token_urlsafe(32)
    _write_files(folder, {**_bring_in(folder, data), **_bring_in_tls(folder, tls), **directives}, password)
    command = _command(folder, program)
    log = folder / "redis.log"
    with log.open("ab") as output, (folder / "redis.conf").open("rb") as configuration:
        server = subprocess.Popen(command, cwd=folder, stdin=configuration, stdout=output, stderr=output, umask=0o077)
    try:
        _wait_until_ready(server, socket, password, log, program)
        yield RedisInstance(socket=socket, password_file=folder / "admin-password", acl_file=folder / "users.acl")
    finally:
        server.terminate()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _bring_in(folder: Path, data: Path | None) -> dict[str, str]:
    """Put existing data into the instance's folder and return the directives that make the server load it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data is not None and data.is_dir():
        if (data / "appendonlydir").is_dir():
            shutil.copytree(data / "appendonlydir", folder / "appendonlydir", dirs_exist_ok=True)
        data = data / "dump.rdb"
    if data is not None and data.is_file():
        shutil.copyfile(data, folder / "dump.rdb")
    return {"appendonly": "yes"} if (folder / "appendonlydir").is_dir() else {}


def _bring_in_tls(folder: Path, tls: TLS | None) -> dict[str, str]:
    if tls is None:
        return {}
    for name, source in {"tls.crt": tls.certificate, "tls.key": tls.key, "ca.crt": tls.ca}.items():
        shutil.copyfile(source, folder / name)
        (folder / name).chmod(0o600)
    return {
        "tls-port": str(tls.port),
        "bind": "127.0.0.1",
        "tls-cert-file": "tls.crt",
        "tls-key-file": "tls.key",
        "tls-ca-cert-file": "ca.crt",
        "tls-auth-clients": "optional",
    }


def _write_files(folder: Path, directives: Mapping[str, str], password: str) -> None:
    """Write redis.conf, the ACL file and the password file.

    Paths in them are relative and the server reads its configuration from standard input, because its user may not be
    able to enter the folders above.
    """
    digest = hashlib.sha256(password.encode()).hexdigest()
    fixed = {"port": "0", "unixsocket": "redis.sock", "dir": ".", "aclfile": "users.acl"}
    settings = {"save": "", "unixsocketperm": "700", **directives, **fixed}
    (folder / "redis.conf").write_text(configuration_file(settings), encoding="utf-8")
    (folder / "users.acl").write_text(f"user default off\nuser admin on #{digest} ~* &* +@all\n", encoding="utf-8")
    (folder / "admin-password").touch(mode=0o600)
    (folder / "admin-password").write_text(password + "\n", encoding="utf-8")


def find_program(server: RedisServer = "redis", command: tuple[str, ...] = ()) -> Program:
    """Return the `server` that `command` starts, or the one that is installed. Raises UsageError without one."""
    if command:
        return _program(server, command)
    name = f"{server}-server"
    binary = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
    if binary is None:
        raise UsageError(f"{name} is not installed; run: apt-get install {name}")
    return _program(server, (binary,))


def installed_version(server: RedisServer = "redis") -> tuple[int, ...]:
    """Return the version of the server that `start` runs, such as (7, 0, 15). Raises UsageError without one."""
    return find_program(server).version


def find_programs() -> list[Program]:
    """Return the installed Redis and the servers of the other Debian release that `./dbkeep test` unpacks."""
    servers: list[RedisServer] = ["redis", "valkey"]
    unpacked = redis_packages.commands()
    return [find_program(), *(find_program(each, tuple(unpacked[each])) for each in servers if each in unpacked)]


def _program(server: RedisServer, command: tuple[str, ...]) -> Program:
    output = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True).stdout
    numbers = re.search(r"v=([\d.]+)", output)
    if numbers is None:
        raise UsageError(f"{' '.join(command)} --version says no version: {output.strip()}")
    return Program(server, tuple(map(int, numbers[1].split("."))), command)


def _command(folder: Path, program: Program) -> list[str]:
    command = ["setpriv", "--pdeathsig", "TERM"]
    if os.geteuid() == 0:
        account = _unprivileged_account(program.server)
        for path in (folder, *folder.rglob("*")):
            if path.name != "admin-password":
                os.chown(path, account.pw_uid, account.pw_gid)
        command += ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
    return [*command, "--", *program.command, "-"]


def _unprivileged_account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam("nobody")


def _wait_until_ready(
    server: subprocess.Popen[bytes], socket: Path, password: str, log: Path, program: Program
) -> None:
    deadline = time.monotonic() + START_SECONDS
    client = redis.Redis(unix_socket_path=str(socket), username="admin", password=password, retry=Retry(NoBackoff(), 0))
    try:
        while True:
            try:
                client.ping()
                return
            except redis.exceptions.BusyLoadingError:
                # However long that takes: it answers.
                deadline = time.monotonic() + START_SECONDS
                time.sleep(0.02)
            except redis.ConnectionError:
                if server.poll() is not None:
                    raise DbkeepError(f"{program.server}-server did not start: {_last_lines(log)}; see {log}") from None
                if time.monotonic() > deadline:
                    raise DbkeepError(
                        f"{program.server}-server is not ready after {START_SECONDS} s; see {log}"
                    ) from None
                time.sleep(0.02)
    finally:
        client.close()


def _last_lines(log: Path) -> str:
    """Return the end of a log as one line: Redis names a bad directive in the line before its complaint."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return ": ".join(line.strip() for line in lines[-2:]) or "no output"
