"""What backups and restores cost beside the bare tools, in one run on throw-away servers.

PostgreSQL: our run beside the same pgBackRest command by hand. MongoDB: a run into the repository beside reading the
same collections raw to nowhere and zstd -3 of the same bytes; a restore beside insert_many of raw batches into the same
indexes. Redis: a run beside `redis-cli --rdb | zstd -3`. Memory: the most that a process which dumps, or restores
MongoDB, has at the size asked for and at a quarter of it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from backup_mongodb import MongoDB
from backup_postgresql import PostgreSQL
from backup_redis import Redis
from cost import alternate, peak_mebibytes, summary

TARGETS = {"postgresql backup": 1.1, "mongodb dump": 1.3, "mongodb restore": 1.2, "redis backup": 1.2}
MEMORY_TARGET = 300


def in_a_process(work: Callable[[], object]) -> int:
    """Do the work in a process of its own and return the most memory that it had, in MiB."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_tell_peak, args=(work, theirs))
    process.start()
    theirs.close()
    peak = int(ours.recv())
    process.join()
    return peak


def _tell_peak(work: Callable[[], object], to: Connection) -> None:
    work()
    to.send(peak_mebibytes())


def measure(engines: tuple[str, ...], megabytes: int, rounds: int, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "postgresql" in engines:
        with PostgreSQL.start(folder / "postgresql", megabytes) as postgresql:
            sides = {"dbkeep": postgresql.run, "pgbackrest by hand": postgresql.by_hand}
            found["postgresql backup"] = summary(alternate(sides, rounds))
    if "mongodb" in engines:
        memory = {}
        for size in (megabytes // 4, megabytes):
            with MongoDB.start(folder / f"mongodb-{size}", size) as mongodb:
                if size == megabytes:
                    sides = {"dbkeep": mongodb.run, "read raw and zstd -3": mongodb.read_and_compress}
                    found["mongodb dump"] = summary(alternate(sides, rounds))
                    sides = {"dbkeep": mongodb.restore, "insert_many of raw batches": mongodb.insert}
                    found["mongodb restore"] = summary(alternate(sides, rounds))
                memory[f"{mongodb.megabytes} MB"] = {
                    "dump": in_a_process(partial(mongodb.take)),
                    "restore": in_a_process(partial(mongodb.load)),
                }
        found["mongodb memory MiB"] = memory
    if "redis" in engines:
        with Redis.start(folder / "redis", megabytes) as redis:
            sides = {"dbkeep": redis.run, "redis-cli --rdb | zstd -3": redis.by_hand}
            found["redis backup"] = summary(alternate(sides, rounds))
    return found


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Choice(["postgresql", "mongodb", "redis"]))
@click.option("--megabytes", default=200, show_default=True, help="Data of each engine.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(engines: tuple[str, ...], megabytes: int, rounds: int, *, as_json: bool) -> None:
    """Back up and restore throw-away servers with MEGABYTES of data each, and the same by the bare tools."""
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-bench-"))
    folder.chmod(0o711)
    try:
        found = measure(engines or ("postgresql", "mongodb", "redis"), megabytes, rounds, folder)
    finally:
        shutil.rmtree(folder)
    load = round(os.getloadavg()[2], 1)
    if as_json:
        click.echo(json.dumps({"megabytes": megabytes, "rounds": rounds, "load": load, **found}, indent=2))
        return
    click.echo(f"load of the machine in the last 15 minutes: {load}")
    for what, target in TARGETS.items():
        if what in found:
            _show(what, found[what], target)
    for size, peaks in found.get("mongodb memory MiB", {}).items():
        click.echo(f"mongodb {size}: dump {peaks['dump']} MiB, restore {peaks['restore']} MiB (target {MEMORY_TARGET})")


def _show(what: str, sides: dict[str, dict[str, float]], target: float) -> None:
    for name, medians in sides.items():
        click.echo(f"{what:<18} {name:<28} {medians['wall']:7.2f} s  {medians['cpu']:7.2f} CPU s "
                   f"(client {medians['client']:.2f}, server {medians['server']:.2f})")  # fmt: skip
    mine, other = sides.values()
    click.echo(f"{what:<18} {mine['wall'] / other['wall']:.2f} x by the clock, {mine['cpu'] / other['cpu']:.2f} x in "
               f"processor seconds (target {target})")  # fmt: skip


if __name__ == "__main__":
    main()
