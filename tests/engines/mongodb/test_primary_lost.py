"""The primary is lost in mid-apply: one line, and the same command again converges."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pymongo.errors import PyMongoError

from dbkeep import mongodb as engine
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import Client, connect, hello
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError, Change
from dbkeep.settings import MongoDBSettings

from .replicas import replica_set

MADE = 8


def kill(client: Client) -> None:
    os.kill(client.admin.command("serverStatus")["pid"], signal.SIGKILL)


def step_down(client: Client) -> None:
    with suppress(PyMongoError):
        client.admin.command("replSetStepDown", 60, secondaryCatchUpPeriodSecs=10)


@pytest.mark.parametrize(("lose", "left"), [(kill, 2), (step_down, 3)], ids=["kill -9", "step-down"])
def test_it_is_one_line_and_a_rerun_converges(
    lose: Callable[[Client], None],
    left: int,
    folder: Path,
    declared: Declared,
    passwords: dict[str, str],
) -> None:
    with replica_set(folder / f"lost-{lose.__name__}", miss_primary_ms=3000) as members:
        made: list[Change] = []

        def lose_the_primary(change: Change) -> None:
            made.append(change)
            if len(made) == MADE:
                with connect(members[2]) as client:
                    lose(client)

        with pytest.raises(ApplyError) as error:
            engine.apply(members[2], declared, passwords, on_change=lose_the_primary)
        assert "lost the primary" in str(error.value)
        assert "when the replica set has one, run the same command again" in str(error.value)
        assert "\n" not in str(error.value)
        assert error.value.applied == tuple(made)
        assert len(made) == MADE

        survivors = [member for member in members if hello(member, 500)]
        assert len(survivors) == left
        converge(survivors[0], declared, passwords)


def converge(member: MongoDBSettings, declared: Declared, passwords: dict[str, str]) -> None:
    bootstrap.wait_for_primary(member)
    engine.apply(member, declared, passwords)
    assert list(engine.plan(member, declared, passwords)) == []
