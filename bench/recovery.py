"""How long a host with all three engines takes to be backed up, and to be restored and proved in a drill.

The engines are as declared and hold what the reference API would have written. Each is backed up and drilled alone, one
after the other; seconds by the clock and of the processor, for each GB of its data. Memory is the most that the process
had which restores and proves, without the servers. The attack as every role, which does not grow with the data, is left
out.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from cost import cost_of, peak_mebibytes
from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import Part
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost
from dbkeep.mongodb.connect import connect
from declared_host import Data, DeclaredHost, start

ENGINES = ("postgresql", "mongodb", "redis")
# Of a GB over all: what a chat has, mostly messages. Each is a little more than its data, with indexes and overhead.
USERS_OF_A_GB, MESSAGES_OF_A_GB, KEYS_OF_A_GB = 220_000, 1_400_000, 900_000
SET_ID = "20260101T00000{}Z"


def measure(folder: Path, gigabytes: float) -> dict[str, Any]:
    data = Data(*(int(each * gigabytes) for each in (USERS_OF_A_GB, MESSAGES_OF_A_GB, KEYS_OF_A_GB)))
    found: dict[str, Any] = {}
    click.echo(f"filling {data}", err=True)
    with start(folder, data) as declared:
        for number, engine in enumerate(ENGINES):
            set_id = SET_ID.format(number)
            click.echo(f"{engine}: backup and drill", err=True)
            began = time.perf_counter()
            (part,) = run(declared.host, set_id, [engine])
            backed_up = time.perf_counter() - began
            found[engine] = {"gigabytes": _gigabytes(declared, part), "backup_seconds": backed_up}
            found[engine] |= in_a_process(partial(drilled, declared.host, set_id, engine, declared.identity))
    return found


def _gigabytes(declared: DeclaredHost, part: Part) -> float:
    """Return the data as the engine has it: files of the cluster, documents, the dump."""
    if part.engine == "postgresql":
        return float(part.details["database_bytes"]) / 1e9
    if part.engine == "mongodb":
        with connect(declared.host.with_mongodb()[1]) as client:
            return float(client["chat"].command("dbStats")["dataSize"]) / 1e9
    return part.files[0].plain_size / 1e9


def drilled(host: BackupHost, set_id: str, engine: str, identity: str) -> dict[str, Any]:
    """Drill one part and return what it took; raises SystemExit with the reason when it did not pass."""
    evidence: dict[str, Any] = {}
    cost = cost_of(lambda: evidence.update(drill(host, set_id, [engine], identity)), [])
    observed = evidence["observed"]["engines"][engine]
    if not observed["passed"]:
        wrong = [assertion for assertion in observed["assertions"] if not assertion["holds"]]
        raise SystemExit(f"{engine}: the drill failed: {observed['error'] or wrong[:1]}")
    return {
        "restored_seconds": observed["rto_seconds"],
        "proved_seconds": cost.wall,
        "processor_seconds": cost.cpu,
        "assertions": len(observed["assertions"]),
        "memory_mebibytes": peak_mebibytes(),
    }


def in_a_process(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `work` does, done in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        answer: dict[str, Any] = ours.recv()
    except EOFError:
        raise SystemExit("the drill's process ended without an answer") from None
    finally:
        process.join()
    return answer


def _answer(work: Callable[[], dict[str, Any]], to: Connection) -> None:
    to.send(work())


@click.command()
@click.option("--gigabytes", default=1.0, show_default=True, help="Data of the three engines together, about.")
@click.option("--json", "as_json", is_flag=True)
def main(gigabytes: float, *, as_json: bool) -> None:
    """Back up throw-away servers with GIGABYTES of data, restore and prove them, and say what a GB takes."""
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-bench-"))
    folder.chmod(0o711)
    try:
        found = measure(folder, gigabytes)
    finally:
        shutil.rmtree(folder)
    added = ("gigabytes", "backup_seconds", "restored_seconds", "proved_seconds", "processor_seconds", "assertions")
    found["all"] = {what: sum(found[engine][what] for engine in ENGINES) for what in added}
    found["all"]["memory_mebibytes"] = max(found[engine]["memory_mebibytes"] for engine in ENGINES)
    if as_json:
        click.echo(json.dumps({"load": os.getloadavg()[1], **found}, indent=2))
        return
    click.echo(f"load of the machine in the last 5 minutes: {os.getloadavg()[1]:.1f}")
    for name, each in found.items():
        backup, answers, proved, cpu = (each[what] / each["gigabytes"] for what in added[1:5])
        click.echo(f"{name:<10} {each['gigabytes']:5.2f} GB  for each GB: backup {backup:6.1f} s, answers after "
                   f"{answers:6.1f} s, proved in {proved:6.1f} s ({cpu:.1f} CPU s); {each['assertions']} assertions, "
                   f"{each['memory_mebibytes']} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
