"""The controls of the stores, asked about real ones: each fails for what it is for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyrage
import pytest

from dbkeep.backup.catalog import score_here
from dbkeep.backup.drill.run import drill
from dbkeep.backup.manifest import read_sets, set_id_of
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.stores.copies import copy_all
from dbkeep.checks.control import NotApplicable
from dbkeep.checks.facts.backup import _newest, _stores
from dbkeep.ports import free_port
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server

from .conftest import Site
from .stores import BUCKET, bucket, client, directory, with_stores

Ask = Callable[[str, BackupHost], str]


@pytest.fixture(scope="module")
def controls() -> ModuleType:
    path = Path(__file__).parents[3] / "checks/backup/sets.py"
    spec = importlib.util.spec_from_file_location("backup_controls", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # Their marker is known to `dbkeep check` only; here they are plain functions.
        patch.setattr("dbkeep.checks.control.control", lambda *_, **__: lambda function: function)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ask(controls: ModuleType) -> Ask:
    """Ask one control about a host and return why it fails, or an empty text when it holds."""

    def one(name: str, host: BackupHost) -> str:
        sets = read_sets(host.sets, host.settings.signing_keys)
        facts = {
            "newest": {n: _newest(n, sets, host) for n in host.engines},
            "stores": _stores(host),
            "score": score_here(host),
        }
        try:
            getattr(controls, name)(facts, lambda **_: None)
        except AssertionError as error:
            return str(error)
        return ""

    return one


@pytest.fixture(scope="module")
def host(site: Site, server: S3Server, folder: Path) -> BackupHost:
    found = with_stores(site, [bucket(server, folder, lock_days=1)])
    site.take((), found)
    return found


COPY, LOCK = "test_a_copy_is_off_the_host", "test_locked_copies_stay"
SCORE = "test_the_newest_set_scores_3_2_1_1_0"


def test_they_hold_for_a_locked_copy_of_the_newest_set(ask: Ask, host: BackupHost) -> None:
    assert (ask(COPY, host), ask(LOCK, host)) == ("", "")


def test_a_host_with_no_store_or_only_a_local_one_has_no_copy_off_it(ask: Ask, site: Site, folder: Path) -> None:
    wanted = "no store off this host is declared"
    assert wanted in ask(COPY, site.host)
    near = with_stores(site, [directory(folder / "near", "near")])
    copy_all(near)
    assert wanted in ask(COPY, near)
    with pytest.raises(NotApplicable, match="no store with object lock is declared"):
        ask(LOCK, near)


def test_the_score_is_reached_by_copies_locks_and_a_drill_without_errors(
    ask: Ask, site: Site, host: BackupHost
) -> None:
    assert ask(SCORE, site.host) == (
        "copies is 2 of 3; media is 1 of 2; off host is 0 of 1; locked is 0 of 1; no drill was run"
    )
    assert ask(SCORE, host) == "no drill was run"
    drill(host, "newest", ["redis"], str(pyrage.x25519.Identity.generate()))
    assert ask(SCORE, host) == "errors is 1, not 0"
    drill(host, "newest", ["redis"], site.identity)
    assert ask(SCORE, host) == ""
    found = score_here(host)
    assert [found[name] for name in ("copies", "media", "off_host", "locked", "errors")] == [3, 2, 1, 1, 0]


def test_the_score_is_that_of_the_set_that_was_taken_last_not_of_the_highest_id(
    host: BackupHost,
) -> None:
    # A timer's set has the id of its slot, which one taken by hand before it can be later than.
    set_id = set_id_of(datetime.now(UTC), 24 * 60)
    run(host, set_id, host.engines)
    found = score_here(host)
    assert (found["set_id"], found["locked"]) == (set_id, 1)


def test_a_newer_set_that_never_left_the_host_is_noticed(ask: Ask, site: Site, host: BackupHost) -> None:
    set_id = site.take(("redis",))["redis"].set_id
    assert ask(COPY, host) == f"redis: set {set_id} has none"
    copy_all(host)
    assert ask(COPY, host) == ""


def test_a_store_that_ignores_locks_fails(ask: Ask, site: Site, tmp_path: Path) -> None:
    with s3.plain(tmp_path / "plain") as server:
        client(server).create_bucket(Bucket=BUCKET)
        fooled = with_stores(site, [bucket(server, tmp_path, checksums=False)])
        copy_all(fooled)
        assert ask(COPY, fooled) == ""
        assert "offsite: a version that is locked could be deleted" in ask(LOCK, fooled)


def test_a_store_that_does_not_answer_fails_both(ask: Ask, site: Site, tmp_path: Path) -> None:
    settings: Any = bucket(S3Server(free_port(), Path("/etc/ssl/certs/ca-certificates.crt")), tmp_path, attempts=1)
    away = with_stores(site, [settings])
    assert "cannot be listed" in ask(COPY, away)
    assert "cannot be put" in ask(LOCK, away)
