"""Numbered records in every engine of a host, and when each was acknowledged: they tell what a kill lost."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dbkeep.environment import Environment
from dbkeep.remote import ssh_command

from .service import PYTHON

ENGINES = ("postgresql", "mongodb", "redis")

_CONNECT = """
import json, sys, threading, time
from pymongo import WriteConcern
from dbkeep.backup.settings import read_host
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.redis.connect import connect as redis

host = read_host()
LIST = 'sess:numbers'
with (
    postgresql(host.postgresql) as sql,
    mongodb(host.mongodb) as mongo,
    redis('state', host.redis.instances['state']) as state,
):
    numbers = mongo[host.mongodb.database].get_collection('numbers', write_concern=WriteConcern('majority'))
"""
# Each line it prints is a record that the engine has acknowledged; it ends when its standard input does.
_WRITE = """
    sql.execute('CREATE SCHEMA numbers')
    sql.execute('CREATE TABLE numbers.numbers (number int PRIMARY KEY)')
    stop, turn = threading.Event(), threading.Lock()

    def repeat(engine, write):
        number = 0
        while not stop.is_set():
            number += 1
            write(number)
            with turn:
                print(engine, number, time.time(), flush=True)
            time.sleep(0.05)

    writes = {
        'postgresql': lambda number: sql.execute('INSERT INTO numbers.numbers VALUES (%s)', [number]),
        'mongodb': lambda number: numbers.insert_one({'_id': number}),
        'redis': lambda number: state.rpush(LIST, number),
    }
    threads = [threading.Thread(target=repeat, args=pair) for pair in writes.items()]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
"""
_READ = """
    print(json.dumps({
        'postgresql': [row[0] for row in sql.execute('SELECT number FROM numbers.numbers ORDER BY 1')],
        'mongodb': [found['_id'] for found in numbers.find().sort('_id', 1)],
        'redis': [int(number) for number in state.lrange(LIST, 0, -1)],
    }))
"""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One record that an engine said it has, and when it had said so."""

    number: int
    at: float


def _command(environment: Environment, program: str) -> list[str]:
    return [*ssh_command(environment.all_hosts[0]), f"sudo -n {PYTHON} -c {shlex.quote(program)}"]


class Writer:
    """Writes from its start until `stop`, or until the host is gone."""

    def __init__(self, environment: Environment) -> None:
        self.acknowledged: dict[str, list[Acknowledged]] = {engine: [] for engine in ENGINES}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(_command(environment, _CONNECT + _WRITE), stdin=pipe, stdout=pipe, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            engine, number, at = line.split()
            self.acknowledged[engine].append(Acknowledged(int(number), float(at)))

    def wait_for_all(self) -> None:
        """Return when every engine has acknowledged a record."""
        deadline = time.monotonic() + 120
        while not all(self.acknowledged.values()):
            assert time.monotonic() < deadline, self._process.poll()
            assert self._process.poll() is None
            time.sleep(0.1)

    def stop(self) -> None:
        """End the program, whether or not its host is still there to answer."""
        self._process.kill()
        self._process.communicate()
        self._reader.join()


def read(environment: Environment) -> dict[str, int]:
    """Return the last record of each engine, after seeing that none before it is missing.

    Raises subprocess.CalledProcessError while an engine does not answer.
    """
    done = subprocess.run(_command(environment, _CONNECT + _READ), capture_output=True, text=True, check=True)
    found: Mapping[str, list[int]] = json.loads(done.stdout)
    for engine, numbers in found.items():
        assert numbers == list(range(1, len(numbers) + 1)), engine
    return {engine: len(numbers) for engine, numbers in found.items()}


def lost_seconds(acknowledged: Mapping[str, list[Acknowledged]], last: Mapping[str, int]) -> dict[str, float]:
    """Return, for each engine, from its last record that is there to its last that was acknowledged."""
    times = {engine: {one.number: one.at for one in records} for engine, records in acknowledged.items()}
    return {
        engine: round(max(0.0, records[-1].at - times[engine].get(last[engine], records[-1].at)), 3)
        if last[engine]
        else float("inf")
        for engine, records in acknowledged.items()
    }
