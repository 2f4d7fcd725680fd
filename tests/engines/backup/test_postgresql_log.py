"""A set of PostgreSQL is carried on to a name or a time, exactly, and to nothing when its log has a gap."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.postgresql import mark
from dbkeep.backup.restore_postgresql import replace
from dbkeep.backup.slices import Slice
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql.connect import connect

from .postgresql_hosts import PostgreSQLHost, make_host


@pytest.fixture(scope="module")
def made(folder: Path) -> Iterator[PostgreSQLHost]:
    with make_host(folder, str(pyrage.x25519.Identity.generate())) as found:
        yield found


@pytest.fixture(scope="module")
def part(made: PostgreSQLHost) -> Part:
    made.write(1)
    return made.take()


def at(moment: datetime) -> RecoveryPoint:
    return RecoveryPoint(at=moment, name="")


def pause() -> datetime:
    """Return a moment that is after all that was written and before all that will be."""
    time.sleep(0.02)
    moment = datetime.now(UTC)
    time.sleep(0.02)
    return moment


def archived(made: PostgreSQLHost) -> list[Path]:
    return sorted((made.host.settings.repository / "postgresql").rglob("0*-*"))


def test_a_copy_stops_exactly_at_a_name_or_time_and_archives_nothing(made: PostgreSQLHost, part: Part) -> None:
    (first,) = made.cut()
    assert first.begins_chain
    assert first.started_at == part.recovery_point.at
    made.write(2)
    point = mark(made.host, "dbkeep_between_2_and_3")
    made.write(3)
    between = pause()
    made.write(4)
    (second,) = made.cut()
    assert (second.first, second.begins_chain) == (first.last, False)
    assert second.repository_files
    (idle,) = made.cut()
    assert (idle.first, idle.last, idle.repository_files) == (second.last, second.last, ())

    before = archived(made)
    expected = {
        RecoveryPoint(at=point.at, name=point.name): [1, 2],
        at(between): [1, 2, 3],
        at(idle.ended_at): [1, 2, 3, 4],
        part.recovery_point: [1],
    }
    for target, rows in expected.items():
        with made.copy(part, target) as server:
            assert made.rows(server) == rows, target
            with connect(server, "chat") as connection:
                connection.execute("INSERT INTO chat.records VALUES (1000)")
                connection.execute("SELECT pg_switch_wal()")
    assert archived(made) == before
