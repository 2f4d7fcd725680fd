"""A point is set in every engine at one moment, and holds for those that did not fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbkeep.backup import points as module
from dbkeep.backup.job import Fence, Ready
from dbkeep.backup.points import mark, read_points
from dbkeep.backup.recovery_point import Gate
from dbkeep.backup.settings import BackupHost
from dbkeep.errors import DbkeepError, UsageError

from .point_records import at, new_host


@pytest.fixture
def host(tmp_path: Path) -> BackupHost:
    return new_host(tmp_path)


class Engines:
    """Stands in for the engines' modules: what `mark` of each does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **marks: Callable[[BackupHost, str, Ready], Fence]) -> None:
        monkeypatch.setattr(
            module, "import_module", lambda name: type(name, (), {"mark": staticmethod(marks[name.rpartition(".")[2]])})
        )


def good(_: BackupHost, name: str, ready: Ready) -> Fence:
    ready()
    return Fence(at=datetime.now(UTC), name=name)


def test_an_engine_that_connects_slowly_adds_no_skew(host: BackupHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(host: BackupHost, name: str, ready: Ready) -> Fence:
        time.sleep(0.5)
        return good(host, name, ready)

    Engines(monkeypatch, mongodb=slow, redis=good)
    assert mark(host, "p").skew_seconds < 0.5
    with pytest.raises(UsageError, match="there already"):
        mark(host, "p")


def test_a_point_holds_for_the_engines_that_did_not_fail(host: BackupHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: BackupHost, name: str, ready: Ready) -> Fence:  # noqa: ARG001 - every mark has this shape
        raise DbkeepError("mongod is down")

    Engines(monkeypatch, mongodb=down, redis=good)
    with pytest.raises(DbkeepError, match=r"point p: mongodb: mongod is down \(redis have it\)"):
        mark(host, "p")
    assert [sorted(found.fences) for found in read_points(host)] == [["redis"]]
    Engines(monkeypatch, mongodb=down, redis=down)
    with pytest.raises(DbkeepError, match="point q is not set"):
        mark(host, "q")
    assert len(read_points(host)) == 1


def test_the_point_of_a_slot_is_set_once_and_named_after_it(host: BackupHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now", lambda: at(301))
    Engines(monkeypatch, mongodb=good, redis=good)
    assert mark(host).name == "20261128T080500Z"
    assert mark(host) == read_points(host)[0]


def test_the_gate_opens_at_its_moment_when_all_are_there() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=0.3)
    gate = Gate(2, moment)
    other = threading.Thread(target=gate.wait)
    other.start()
    gate.wait()
    other.join()
    assert gate.began is not None
    assert gate.began >= moment
