"""What a kill of the host costs, in seconds: on the host itself, and on a fresh one from store and escrow alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest

from dbkeep.environment import Environment, read_environment
from dbkeep.lab.lab import read_lab
from dbkeep.lab.machine import nspawn_process
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server

from ..engines.backup.stores import client
from .lost_host import STORE, build_anew, destroy, protect, provisioned, succeed
from .numbered_records import ENGINES, Writer, lost_seconds, read

pytestmark = pytest.mark.long

NAME = "rpo"
# The targets of issue "Backups that are proved".
SAME_HOST = {"postgresql": 60, "mongodb": 60, "redis": 2}
ELSEWHERE = dict.fromkeys(ENGINES, 60)
# Longer than a round of each log and its upload, so that the moment is one of any.
SECONDS = (70, 110)
START_SECONDS = 180


def test_what_a_kill_of_the_host_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with provisioned(NAME) as lab, s3.locking(tmp_path / "store", address=lab.gateway) as server:
        kept = protect(NAME, server, tmp_path)
        writer = Writer(read_environment(NAME))
        try:
            writer.wait_for_all()
            time.sleep(random.uniform(*SECONDS))  # noqa: S311 - any moment will do
            kill_host(NAME)
        finally:
            writer.stop()
        moment = newest_in(server)

        succeed("lab", "up", NAME)
        same_host = lost_seconds(writer.acknowledged, read_when_started(read_environment(NAME)))
        destroy(NAME)
        build_anew(NAME, kept)
        identity = ("--identity-file", str(kept.identity))
        succeed("restore", "-e", NAME, "--store", STORE, "--to", moment, *identity, "--yes", "--json")
        elsewhere = lost_seconds(writer.acknowledged, read(read_environment(NAME)))

    written = {engine: len(records) for engine, records in writer.acknowledged.items()}
    with capsys.disabled():
        found = json.dumps({"written": written, "same_host": same_host, "elsewhere": elsewhere})
        sys.stdout.write(f"\nrpo {found}\n")
    assert {engine: lost for engine, lost in same_host.items() if lost > SAME_HOST[engine]} == {}
    assert {engine: lost for engine, lost in elsewhere.items() if lost > ELSEWHERE[engine]} == {}
    assert any(elsewhere.values()), "nothing was lost with the host: it was not killed while it was written to"


def kill_host(name: str) -> None:
    """End every process of the host at once, as a power cut does, but for what its kernel has."""
    lab = read_lab(name)
    assert lab
    (machine,) = lab.machines
    process = nspawn_process(machine)
    assert process
    for leader in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split():
        os.kill(int(leader), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while nspawn_process(machine):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def newest_in(server: S3Server) -> str:
    """Return the last second up to which the store has the log of every engine."""
    pages = client(server).get_paginator("list_objects_v2").paginate(Bucket="copies", Prefix=f"{STORE}/log/")
    keys = [PurePosixPath(entry["Key"]) for page in pages for entry in page["Contents"]]
    ends = [max(key.stem for key in keys if key.suffix == ".json" and key.parent.name == engine) for engine in ENGINES]
    moment = datetime.strptime(min(ends), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def read_when_started(environment: Environment) -> dict[str, int]:
    """Return the last record of each engine as soon as all of them answer."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return read(environment)
        except subprocess.CalledProcessError as error:
            if time.monotonic() > deadline:
                pytest.fail(error.stderr)
            time.sleep(1)
