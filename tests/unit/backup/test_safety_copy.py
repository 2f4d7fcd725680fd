"""A restore is killed at any step: the next one finds the live data, and never removes what may have become live."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dbkeep.backup.restore.safety_copy import NotedService, safety_copies, set_aside, unfinished
from dbkeep.errors import DbkeepError

ME = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")


@dataclass
class Service:
    done: list[str] = field(default_factory=list)

    def stop(self) -> None:
        self.done.append("stop")

    def start(self) -> None:
        self.done.append("start")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o750)
    (directory / "live").touch()
    return directory


def killed(step: Callable[[], None]) -> None:
    """Run a step in a process that ends without cleaning up, as after kill -9."""
    child = os.fork()
    if child == 0:
        try:
            step()
        finally:
            os._exit(9)
    os.waitpid(child, 0)


def part_of_a_restore(directory: Path, *, start: bool) -> None:
    service = NotedService(Service(), directory)
    with set_aside(directory, service, ME):
        (directory / "part of a copy").touch()
        if start:
            service.start()
        os._exit(9)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_restore_that_is_done_leaves_the_safety_copy_and_no_note(data: Path) -> None:
    service = NotedService(Service(), data)
    with set_aside(data, service, ME) as safety:
        (data / "restored").touch()
        service.start()
        assert unfinished(data) == safety
    assert unfinished(data) is None
    assert safety is not None
    assert (names(data), names(safety)) == (["restored"], ["live"])
    assert names(data.parent) == sorted(["data", safety.name])
    assert data.stat().st_mode & 0o777 == 0o750


def test_what_was_killed_before_the_server_started_is_removed_and_the_live_data_stays_the_safety_copy(
    data: Path,
) -> None:
    killed(lambda: part_of_a_restore(data, start=False))
    aside = unfinished(data)
    assert aside is not None
    assert names(aside) == ["live"]
    with set_aside(data, Service(), ME) as safety:
        assert safety == aside
        assert names(data) == []
    assert safety_copies(data) == [aside]
    assert data.stat().st_mode & 0o777 == 0o750


def test_what_the_server_was_started_on_is_set_aside_too(data: Path) -> None:
    killed(lambda: part_of_a_restore(data, start=True))
    aside = unfinished(data)
    assert aside is not None
    with set_aside(data, Service(), ME) as safety:
        assert safety is not None
        assert safety != aside
        assert names(safety) == ["part of a copy"]
    assert [names(copy) for copy in safety_copies(data)] == [["live"], ["part of a copy"]]


def test_a_rerun_that_fails_puts_the_live_data_back(data: Path) -> None:
    killed(lambda: part_of_a_restore(data, start=False))
    service = Service()
    with pytest.raises(DbkeepError, match="no room"), set_aside(data, service, ME):
        raise DbkeepError("no room")
    assert names(data) == ["live"]
    assert service.done[-1] == "start"
    assert unfinished(data) is None
    assert safety_copies(data) == []


@pytest.mark.parametrize("method", ["rename", "mkdir"])
def test_a_kill_between_two_steps_leaves_the_live_data_where_the_next_one_finds_it(
    data: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(Path, method, lambda *_, **__: os._exit(9))

    def step() -> None:
        with set_aside(data, Service(), ME):
            pass

    killed(step)
    monkeypatch.undo()
    with set_aside(data, Service(), ME) as safety:
        (data / "restored").touch()
    assert safety is not None
    assert (names(data), names(safety)) == (["restored"], ["live"])
    assert len(safety_copies(data)) == 1
