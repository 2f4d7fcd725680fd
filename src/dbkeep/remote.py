"""Calls the agent on a host over SSH: a JSON request in, a JSON answer out, progress lines on the way."""

from __future__ import annotations

import io
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

from dbkeep.environment import Host
from dbkeep.errors import DbkeepError, UsageError

AGENT = "/opt/dbkeep/venv/bin/dbkeep"
CONTROL_DIRECTORY = Path.home() / ".ssh"


def ssh_command(host: Host, *, tunnel: bool = False) -> list[str]:
    """Return the ssh command line up to and including the host.

    Connections are shared for a minute (ControlPersist), except with `tunnel`, whose process owns its forwarding.
    """
    command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-p", str(host.port), *host.ssh_options]
    if host.key_file:
        command += ["-i", str(host.key_file), "-o", "IdentitiesOnly=yes"]
    if tunnel:
        command += ["-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes"]
    else:
        CONTROL_DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        control = CONTROL_DIRECTORY / "dbkeep-%C"
        command += ["-o", "ControlMaster=auto", "-o", f"ControlPath={control}", "-o", "ControlPersist=60"]
    return [*command, f"{host.user}@{host.address}"]


def call(
    host: Host,
    words: Sequence[str],
    request: dict[str, Any] | None = None,
    *,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run `dbkeep agent WORDS` as root on `host` with `request` on its standard input and return its answer.

    Raises UsageError when the host cannot be reached or has no agent, DbkeepError with the agent's own line when
    the work failed there.
    """
    command = [*ssh_command(host), "sudo", "-n", AGENT, "agent", *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        lines: list[str] = []
        reader = threading.Thread(target=_read_progress, args=(process.stderr, lines, on_progress), daemon=True)
        reader.start()
        answer = _exchange(process, json.dumps(request or {}))
        reader.join()
    if process.returncode:
        raise _failure(host, process.returncode, lines)
    try:
        return dict(json.loads(answer))
    except ValueError:
        what = f"{host.name}: the agent's answer to {' '.join(words)} is not JSON"
        raise DbkeepError(f"{what}; run playbooks/site.yml") from None


def transfer(
    source: Host,
    words: Sequence[str],
    request: dict[str, Any],
    sink: Host,
    sink_words: Sequence[str],
    *,
    on_progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Run one agent command on `source` and give what it writes to another one on `sink`, without keeping any of it.

    Raises what `call` raises, of the source first: a stream that ends early is its failure.
    """
    giving = [*ssh_command(source), "sudo", "-n", AGENT, "agent", *words]
    taking = [*ssh_command(sink), "sudo", "-n", AGENT, "agent", *sink_words]
    said: dict[Host, list[str]] = {source: [], sink: []}
    with (
        subprocess.Popen(giving, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as giver,
        subprocess.Popen(taking, stdin=giver.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as taker,
    ):
        cast(IO[bytes], giver.stdout).close()
        running = {source: giver, sink: taker}
        readers = [
            threading.Thread(
                target=_read_progress,
                args=(io.TextIOWrapper(cast(IO[bytes], process.stderr), encoding="utf-8"), said[host], on_progress),
                daemon=True,
            )
            for host, process in running.items()
        ]
        for reader in readers:
            reader.start()
        with suppress(BrokenPipeError):
            stdin = cast(IO[bytes], giver.stdin)
            stdin.write(json.dumps(request).encode())
            stdin.close()
        for reader in readers:
            reader.join()
    for host, process in running.items():
        # A giver whose taker ended is ended by that: what it says then is not the reason.
        if process.returncode and not (host is source and taker.returncode and _only_broken(said[source])):
            raise _failure(host, process.returncode, said[host])


def _only_broken(lines: Sequence[str]) -> bool:
    return not lines or "Broken pipe" in lines[-1]


def _exchange(process: subprocess.Popen[str], request: str) -> str:
    stdin, stdout = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
    with suppress(BrokenPipeError):  # the other side ended first: its exit status and last line say why
        stdin.write(request)
        stdin.close()
    return stdout.read()


def _read_progress(stream: IO[str] | None, lines: list[str], on_progress: Callable[[str], None]) -> None:
    for raw in stream or ():
        line = raw.rstrip()
        lines.append(line)
        on_progress(line)


def _failure(host: Host, status: int, lines: list[str]) -> DbkeepError:
    last = next((line for line in reversed(lines) if line), "no reason given")
    if status == 255:
        return UsageError(f"{host.name} ({host.address}): SSH failed: {last}")
    if AGENT in last and ("command not found" in last or "No such file" in last):
        return UsageError(f"{host.name}: the agent is not installed there; run playbooks/site.yml first")
    text = last.removeprefix("dbkeep: ")
    return UsageError(f"{host.name}: {text}") if status == 2 else DbkeepError(f"{host.name}: {text}")
