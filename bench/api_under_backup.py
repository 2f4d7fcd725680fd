"""What users of the reference API notice of a backup: its p50 and p99 without one and while one runs, in turns.

The API runs as in production, over TLS, before the three engines as declared with data in them. Users ask and send at a
steady rate, each the next thing when it has the last answer. Meanwhile sets of all engines are taken, one after the
other, by a process with the limits of dbkeep-backup.service as far as they are there without systemd: nice 10 and the
lowest best-effort class of IO in place of CPUWeight and IOWeight. Where the benchmark itself is so nice that nice 10 is
nothing more, it is the policy SCHED_IDLE, which weighs a fifth of nice 19, as CPUWeight=20 does.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import shutil
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import click

from dbkeep.backup.drill.application import Api, serve
from dbkeep.backup.manifest import set_id_of, set_ids
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost
from dbkeep.evidence import now
from dbkeep.secrets import new_password
from declared_host import Data, start

NICE, NICEST = 10, 19
IO_CLASS = ("ionice", "--class", "2", "--classdata", "7")
USERS = 8
PERIOD_SECONDS = 2.0
REQUESTS = 5
FAILED = 400

Request = tuple[str, str, dict[str, str] | None]
Took = list[tuple[str, float]]


@dataclass(slots=True)
class Person:
    """A user who is logged on, with a connection that is kept open, in a conversation."""

    connection: http.client.HTTPSConnection
    headers: dict[str, str]
    conversation: str

    def turn(self) -> Sequence[Request]:
        """Return the requests of one turn: four that read and one that sends."""
        messages = f"/conversations/{self.conversation}/messages"
        send: Request = ("PUT", f"{messages}/{uuid4()}", {"content": "Sent under load."})
        reads: list[Request] = [("GET", path, None) for path in ("/profile", "/conversations", messages, messages)]
        return (*reads[:3], send, reads[3])

    def ask(self, method: str, path: str, body: dict[str, str] | None) -> None:
        """Send a request and read its answer; raises SystemExit when it is refused."""
        self.connection.request(method, path, json.dumps(body) if body else None, self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= FAILED:
            raise SystemExit(f"{method} {path} was answered with {answer.status}: {text[:200]!r}")


def log_on(api: Api, authority: Path) -> list[Person]:
    """Register USERS users who talk in pairs and return them, logged on."""
    people, trust = [], ssl.create_default_context(cafile=str(authority))
    registered = []
    for _ in range(USERS):
        name, password = f"bench-{uuid4().hex[:12]}", new_password()
        body = {"username": name, "email": f"{name}@example.org", "password": password}
        registered.append((api.call("POST", "/auth/register", body)["id"], name, password))
    for index, (_, name, password) in enumerate(registered):
        api.token = None
        api.token = str(api.call("POST", "/auth/login", {"login": name, "password": password})["access_token"])
        other = registered[index ^ 1][0]
        conversation = api.call("POST", "/conversations", {"type": "private", "participants": [other]})["id"]
        headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
        connection = http.client.HTTPSConnection("localhost", api.port, timeout=60, context=trust)
        people.append(Person(connection, headers, str(conversation)))
    return people


def load(people: list[Person], goes_on: Callable[[], bool]) -> Took:
    """Let everybody take a turn each PERIOD_SECONDS while it `goes_on`; return what was asked and its seconds."""
    with ThreadPoolExecutor(len(people)) as threads:
        begin = time.perf_counter() + 0.1
        running = [
            threads.submit(_turns, person, begin + PERIOD_SECONDS * number / len(people), goes_on)
            for number, person in enumerate(people)
        ]
        return [each for future in running for each in future.result()]


def _turns(person: Person, due: float, goes_on: Callable[[], bool]) -> Took:
    took, step = Took(), PERIOD_SECONDS / REQUESTS
    while goes_on():
        for request in person.turn():
            time.sleep(max(0.0, due - time.perf_counter()))
            began = time.perf_counter()
            person.ask(*request)
            took.append((_kind(*request), time.perf_counter() - began))
            due = max(due + step, time.perf_counter())
    return took


def _kind(method: str, path: str, _: object) -> str:
    return f"{method} {'messages' if 'messages' in path else path.strip('/')}"


def take_sets(host: BackupHost, seconds: float) -> None:
    """Take sets of all engines, one after the other, for so long and at least one, as the timer's service would."""
    if os.nice(0) + NICE > NICEST:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.nice(NICE)
    subprocess.run([*IO_CLASS, "--pid", str(os.getpid())], check=True)
    until, number = time.monotonic() + seconds, 0
    while number == 0 or time.monotonic() < until:
        number += 1
        run(host, set_id_of(now() + timedelta(seconds=number)))


def under_backup(host: BackupHost, people: list[Person], seconds: float) -> Took:
    """Return the seconds of each request while sets are taken."""
    process = multiprocessing.get_context("spawn").Process(target=take_sets, args=(host, seconds))
    process.start()
    took = load(people, process.is_alive)
    process.join()
    if process.exitcode:
        raise SystemExit("a backup under load failed: see above")
    return took


def measure(folder: Path, data: Data, rounds: int, seconds: float) -> dict[str, Took]:
    """Return the seconds of each request without and with a backup."""
    found: dict[str, Took] = {"without": [], "with": []}
    click.echo(f"filling {data}", err=True)
    with start(folder, data) as declared, serve(declared.copies, folder, declared.authority) as api:
        people = log_on(api, declared.authority.file)
        _quiet(people, seconds / 2)  # connections, plans and caches
        for number in range(rounds):
            click.echo(f"round {number + 1} of {rounds}", err=True)
            found["without"] += _quiet(people, seconds)
            found["with"] += under_backup(declared.host, people, seconds)
        sets = len(set_ids(declared.host.sets))
    click.echo(f"{sets} sets were taken", err=True)
    return found


def _quiet(people: list[Person], seconds: float) -> Took:
    until = time.monotonic() + seconds
    return load(people, lambda: time.monotonic() < until)


def _percentiles(took: Took, what: str = "") -> dict[str, float]:
    """Return the percentiles of the requests of one kind, of all without any."""
    hundredths = statistics.quantiles([seconds for kind, seconds in took if what in ("", kind)], n=100)
    return {"requests": len(took), "p50": hundredths[49], "p99": hundredths[98]}


@click.command()
@click.option("--users", default=100_000, show_default=True, help="In PostgreSQL, with what belongs to them.")
@click.option("--messages", default=400_000, show_default=True, help="In MongoDB.")
@click.option("--keys", default=200_000, show_default=True, help="In Redis.")
@click.option("--rounds", default=3, show_default=True)
@click.option(
    "--seconds", default=30.0, show_default=True, help="Of each side of a round, or one set if that is longer."
)
@click.option("--json", "as_json", is_flag=True)
def main(users: int, messages: int, keys: int, rounds: int, seconds: float, *, as_json: bool) -> None:
    """Compare the reference API's p50 and p99 without a backup and while one runs."""
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-bench-"))
    folder.chmod(0o711)
    try:
        took = measure(folder, Data(users, messages, keys), rounds, seconds)
    finally:
        shutil.rmtree(folder)
    sides = {name: _percentiles(each) for name, each in took.items()}
    ratio = {what: sides["with"][what] / sides["without"][what] for what in ("p50", "p99")}
    kinds = {
        kind: {name: _percentiles(each, kind)["p99"] for name, each in took.items()}
        for kind in sorted({kind for kind, _ in took["without"]})
    }
    if as_json:
        click.echo(json.dumps({"load": os.getloadavg()[1], **sides, "ratio": ratio, "p99": kinds}, indent=2))
        return
    click.echo(f"load of the machine in the last 5 minutes: {os.getloadavg()[1]:.1f}")
    for name, side in sides.items():
        click.echo(f"{name + ' a backup':<17} p50 {side['p50'] * 1000:7.1f} ms  p99 {side['p99'] * 1000:7.1f} ms  "
                   f"({side['requests']} requests)")  # fmt: skip
    for kind, p99 in kinds.items():
        click.echo(f"{kind:<17} p99 {p99['without'] * 1000:7.1f} ms without, {p99['with'] * 1000:7.1f} ms with")
    click.echo(f"under a backup p50 is {ratio['p50']:.2f} x and p99 {ratio['p99']:.2f} x")


if __name__ == "__main__":
    main()
