"""Retention between runs: what would go is said first, and drilled sets and those in use stay whatever the rule."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dbkeep.backup.drill.run import drill
from dbkeep.backup.lock import BusyError, hold
from dbkeep.backup.manifest import set_id_of, set_ids
from dbkeep.backup.prune import prune_all
from dbkeep.backup.run import LOCK, run
from dbkeep.backup.stores.copies import parts_of
from dbkeep.backup.stores.store import open_store
from dbkeep.backup.verify import verify
from dbkeep.evidence import now

from .conftest import Site
from .stores import directory, with_stores


def test_prune_says_what_would_go_then_lets_it_go_and_keeps_the_proved_and_the_used(site: Site, folder: Path) -> None:
    today = now()
    ids = {days: set_id_of(today - timedelta(days=days)) for days in (40, 39, 9, 8, 2, 0)}
    nas = directory(folder / "nas")
    patient = with_stores(site, [nas], keep_days=3650)
    for set_id in ids.values():
        run(patient, set_id, ["redis"])
    assert drill(patient, ids[40], ["redis"], site.identity)["result"] == "passed"
    host = with_stores(site, [nas], keep_days=1, keep_minimum=1, keep_daily=3)
    gone = {"local": [ids[39], ids[8]], "nas": [ids[39], ids[9], ids[8]]}
    with hold(host.sets / ids[9] / LOCK, "drill", shared=True):
        assert prune_all(host, dry_run=True) == {"removed": gone, "by_lifecycle": []}
        assert set_ids(host.sets) == sorted(ids.values())
        assert prune_all(host) == {"removed": gone, "by_lifecycle": []}
    assert set_ids(host.sets) == [ids[40], ids[9], ids[2], ids[0]]
    there = {set_id for set_id, _ in parts_of(open_store(host, "nas").sizes(""))}
    assert there == {ids[40], ids[2], ids[0]}
    for set_id in there:
        assert verify(host, set_id)["ok"]
    with hold(host.settings.repository / LOCK, "backup of set X"), pytest.raises(BusyError, match="backup of set X"):
        prune_all(host)
    assert prune_all(host)["removed"] == {"local": [ids[9]], "nas": []}
