"""One moment over three engines: a writer never stops, and a restore finds it in all of them at the same number."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup.lock import BusyError
from dbkeep.backup.points import mark, read_points
from dbkeep.backup.points_catalog import points_catalog
from dbkeep.backup.restore import references
from dbkeep.backup.restore.beside import how_to_reach, restore_beside, serving
from dbkeep.backup.restore.run import plan, restore
from dbkeep.backup.restore.target import Target
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.postgresql.connect import connect as postgresql

from .conftest import Site
from .written_site import NOBODY, Written, make_written, numbers_in, seal


@pytest.fixture(scope="module")
def written(folder: Path) -> Iterator[Written]:
    with make_written(folder) as found:
        yield found


def test_a_point_is_one_moment_and_says_how_far_apart_its_engines_are(written: Written) -> None:
    for point in written.points:
        assert sorted(point.fences) == ["mongodb", "postgresql", "redis"]
        moments = [fence.at for fence in point.fences.values()]
        assert point.began_at <= min(moments)
        assert point.skew_seconds == pytest.approx((max(moments) - point.began_at).total_seconds())
    assert [point.name for point in read_points(written.site.host)] == ["try-0", "try-1", "try-2", "late"]
    listed = points_catalog(written.site.host)
    assert listed["errors"] == []
    assert [row["restorable_from"] for row in listed["points"]] == [["local"]] * 4


@pytest.mark.parametrize("name", ["try-1", "late", pytest.param("try-2", marks=pytest.mark.long)])
def test_a_restore_to_a_point_finds_all_engines_in_its_window(written: Written, name: str) -> None:
    site, writer = written.site, written.writer
    (point,) = (point for point in written.points if point.name == name)
    shown = plan(site.host, Target(point=name))
    assert {row["set_id"] for row in shown["parts"]} == {written.set_id}
    assert shown["skew_seconds"] == point.skew_seconds

    evidence = restore(site.host, Target(point=name), None, site.identity, services=site.services)

    assert evidence["observed"]["skew_seconds"] == point.skew_seconds
    allowed = writer.between(point.began_at, point.at)
    found = numbers_in(site.host)
    assert set(found.values()) <= set(allowed), (found, allowed)


def test_a_restore_to_a_second_finds_what_was_written_when_it_began(written: Written) -> None:
    site, writer = written.site, written.writer
    refused: list[str] = []

    def meanwhile(_: str) -> None:
        for second in (lambda: restore(site.host, "newest", None, site.identity), lambda: mark(site.host, "meanwhile")):
            with pytest.raises(BusyError) as error:
                second()
            refused.append(str(error.value))

    target = Target(to=written.second)
    evidence = restore(site.host, target, None, site.identity, services=site.services, progress=meanwhile)
    assert refused
    assert all(f"(restore to time {written.second.isoformat()})" in line and "\n" not in line for line in refused)
    began = datetime.fromisoformat(evidence["observed"]["began"])
    assert written.second - began == timedelta(seconds=1)
    found, allowed = numbers_in(site.host), writer.between(began, written.second)
    assert set(found.values()) <= set(allowed), (found, allowed)
    assert len(allowed) < len(writer.ended)


def test_a_restore_beside_touches_nothing_live_and_lists_what_dangles(
    written: Written, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, writer = written.site, written.writer
    before, (point,) = numbers_in(site.host), (point for point in written.points if point.name == "try-0")
    with pytest.raises(UsageError, match="which is in use"):
        beside(site, "try-0", folder / "backup" / "look")
    look = folder / "look"
    evidence = beside(site, "try-0", look)
    assert numbers_in(site.host) == before
    observed = evidence["observed"]
    assert set(observed["counts"]) == {"postgresql", "mongodb", "redis"}
    found = {row["reference"]: row for row in observed["references"] if row["dangling"]}
    assert {name: (row["dangling"], row["missing_users"]) for name, row in found.items()} == {
        "messages.sender_id": (1, 1),
        "conversations.participants": (1, 1),
        "sess:": (2, 2),
    }
    assert found["messages.sender_id"]["examples"] == [{"user": NOBODY, "document": "lost"}]
    assert "sess:3" not in str(observed["references"]), "the key of a session is a secret"
    assert observed["dangling"] == 4

    with serving(site.host, look) as copies:
        assert set(numbers_in(copies).values()) <= set(writer.between(point.began_at, point.at))
        assert copies.postgresql is not None
        with postgresql(copies.postgresql) as connection:
            assert connection.execute("SHOW archive_mode").fetchone() == ("off",)
        assert len(how_to_reach(copies)) == 3
        monkeypatch.setattr(references, "PAGE", 2)
        monkeypatch.setattr(references, "SCAN_COUNT", 1)
        by_pages = {finding.reference: finding for finding in references.compare_here(copies)}
        for row in observed["references"]:
            finding = by_pages[row["reference"]]
            assert (finding.dangling, finding.missing_users) == (row["dangling"], row["missing_users"])
    with pytest.raises(UsageError, match="not an empty folder"):
        beside(site, "try-0", look)


def beside(site: Site, point: str, look: Path) -> dict[str, Any]:
    return restore_beside(site.host, Target(point=point), (), site.identity, look)


def test_what_came_after_a_restore_needs_a_new_set(written: Written) -> None:
    site = written.site
    restore(site.host, written.set_id, None, site.identity, services=site.services)
    point = mark(site.host, "after")
    seal(site)
    assert points_catalog(site.host)["points"][-1]["restorable_from"] == []
    with pytest.raises(DbkeepError, match=r"gap|later set|earlier"):
        restore(site.host, Target(point=point.name), None, site.identity, services=site.services)
    site.take()
    mark(site.host, "again")
    seal(site)
    assert points_catalog(site.host)["points"][-1]["restorable_from"] == ["local"]
    restore(site.host, Target(point="again"), None, site.identity, services=site.services)
