"""A drill attacks its copies as every role, and finds a set that restores to less safety than is declared."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup.drill.run import drill
from dbkeep.backup.log.slices import newest_slice
from dbkeep.backup.points import mark
from dbkeep.backup.restore.target import Target
from dbkeep.redis.connect import connect as redis

from .conftest import Site
from .declared_site import claimed, make_declared_site
from .written_site import seal


@pytest.fixture(scope="module")
def declared_site(folder: Path) -> Iterator[Site]:
    with make_declared_site(folder) as site:
        site.take()
        yield site


def failures(evidence: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        engine: ([result["error"]] if result["error"] else [])
        + [(a["what"], a["observed"]) for a in result["assertions"] if not a["holds"]]
        for engine, result in evidence["observed"]["engines"].items()
    }


@pytest.mark.long
def test_every_right_is_proved_again_on_the_copies(declared_site: Site) -> None:
    evidence = drill(declared_site.host, "newest", None, declared_site.identity, claimed=claimed())
    assert failures(evidence) == {"postgresql": [], "mongodb": [], "redis": []}
    application = evidence["observed"]["application"]
    assert (application["error"], len(application["assertions"]), application["passed"]) == (None, 2, True)
    damages = ("another passphrase", "another identity", "a flipped byte", "a truncated file", "a missing file")
    for engine, result in evidence["observed"]["engines"].items():
        refused = [a["what"] for a in result["assertions"] if a["what"].startswith(damages)]
        assert len(refused) == (4 if engine == "postgresql" else 5), refused
    assert evidence["observed"]["references"]["dangling"] == 0
    assert all(result["attacked"] for result in evidence["observed"]["engines"].values())
    assert evidence["result"] == "passed"


def test_a_drill_of_a_point_replays_the_log_and_ends_at_its_fences(declared_site: Site) -> None:
    site = declared_site
    at_once = postgresql_archived_at_once(site)
    seal(at_once)
    point = mark(at_once.host, "drilled")
    with redis(*at_once.state()) as client:
        client.set("sess:later", "written after the point", ex=3600)
    seal(at_once)

    evidence = drill(at_once.host, Target(point="drilled"), None, site.identity, claimed=claimed(), strict=False)

    assert failures(evidence) == {"postgresql": [], "mongodb": [], "redis": []}
    assert (evidence["result"], evidence["observed"]["target"]) == ("passed", "point drilled")
    engines = evidence["observed"]["engines"]
    ends = {
        "postgresql": "where recovery stopped",
        "mongodb": "cluster time of the last entry that was replayed",
        "redis": "marker of the point at the end of the log",
    }
    for engine, what in ends.items():
        (end,) = (found for found in engines[engine]["assertions"] if found["what"] == what)
        assert point.fences[engine].name in end["observed"]
        assert engines[engine]["recovery_point"] == point.fences[engine].at.isoformat()
        assert engines[engine]["slices"] > 0
    assert all(result["attacked"] for result in engines.values())
    assert evidence["observed"]["references"]["dangling"] == 0
    started = datetime.fromisoformat(evidence["started_at"])
    oldest = min(fence.at for fence in point.fences.values())
    assert evidence["observed"]["rpo_seconds"] == pytest.approx((started - oldest).total_seconds(), abs=0.01)


@pytest.mark.long
def test_a_drill_of_a_second_ends_before_it(declared_site: Site) -> None:
    site = postgresql_archived_at_once(declared_site)
    time.sleep(1.1)
    second = datetime.now(UTC).replace(microsecond=0)
    time.sleep(1.1)
    mark(site.host, "after-the-second")
    seal(site)
    evidence = drill(site.host, Target(to=second), None, site.identity, strict=False)
    assert failures(evidence) == {"postgresql": [], "mongodb": [], "redis": []}
    whats = [found["what"] for found in evidence["observed"]["engines"]["postgresql"]["assertions"]]
    assert f"the last transaction that was replayed, not after {second.isoformat()}" in whats


def test_a_slice_that_is_damaged_fails_the_drill_of_what_is_after_it(declared_site: Site) -> None:
    site = postgresql_archived_at_once(declared_site)
    mark(site.host, "damaged")
    seal(site)
    newest = newest_slice(site.host.settings.repository, "mongodb", site.host.settings.signing_keys)
    assert newest is not None
    path = site.host.settings.repository / next(newest.stored_files()).name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        evidence = drill(site.host, Target(point="damaged"), ["mongodb"], site.identity)
    finally:
        path.write_bytes(content)
    assert evidence["result"] == "failed"
    assert "altered" in evidence["observed"]["engines"]["mongodb"]["error"]


def postgresql_archived_at_once(site: Site) -> Site:
    """The site with a log of PostgreSQL that is cut whenever it is sealed."""
    assert site.host.settings.postgresql is not None
    changed = site.host.settings.postgresql.model_copy(update={"archive_seconds": 0})
    host = replace(site.host, settings=site.host.settings.model_copy(update={"postgresql": changed}))
    return replace(site, host=host)
