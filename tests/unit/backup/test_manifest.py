"""Set ids, counts, retention, and what pgBackRest's text means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbkeep.backup.manifest import (
    Count,
    Part,
    RecoveryPoint,
    newest,
    read_part,
    read_sets,
    set_id_of,
    time_of,
    write_part,
)
from dbkeep.backup.pgbackrest import error_line, findings
from dbkeep.backup.pgbackrest_engine import backup_type
from dbkeep.backup.recovery_point import skew_seconds
from dbkeep.backup.retention import Keep, expired
from dbkeep.backup.settings import PostgreSQLBackup
from dbkeep.errors import DbkeepError, UsageError

from ... import signing

NOW = datetime(2026, 11, 22, 2, 14, 59, tzinfo=UTC)


def part(set_id: str, engine: str = "redis", at: datetime = NOW) -> Part:
    return Part(
        set_id=set_id,
        engine=engine,
        host="db1",
        server_version="7.0.15",
        recovery_point=RecoveryPoint(at=at, name="x"),
        started_at=at,
        seconds=1,
        stored_bytes=1,
        counts={},
        recipients=("age1x",),
        tools={},
    )


def test_hosts_that_start_apart_agree_on_the_slot() -> None:
    assert {set_id_of(NOW - timedelta(minutes=m), 60) for m in range(15)} == {"20261122T020000Z"}
    assert set_id_of(NOW, 1440) == "20261122T000000Z"
    assert set_id_of(NOW) == "20261122T021459Z"
    assert time_of("20261122T021459Z") == NOW


@pytest.mark.parametrize("text", ["newest", "../../etc", "20261322T020000Z", "20261122T020000", ""])
def test_what_is_no_set_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a set id"):
        time_of(text)


def test_counts_are_exact_when_before_and_after_agree() -> None:
    counts = Count.between({"a": 5, "b": 2, "gone": 1}, {"a": 5, "b": 4, "new": 3})
    assert {name: str(count) for name, count in counts.items()} == {
        "a": "5",
        "b": "2 to 4",
        "gone": "0 to 1",
        "new": "0 to 3",
    }
    assert counts["b"].holds(3)
    assert not counts["a"].holds(4)


def test_the_newest_set_is_the_one_of_the_latest_recovery_point(tmp_path: Path) -> None:
    for set_id, minutes in (("20261122T020000Z", 50), ("20261122T021000Z", 10)):
        folder = tmp_path / set_id / "redis"
        folder.mkdir(parents=True)
        write_part(folder, part(set_id, at=NOW + timedelta(minutes=minutes)), signing.write_key(tmp_path))
    assert newest(tmp_path, ("redis",), signing.PUBLIC) == "20261122T020000Z"
    with pytest.raises(UsageError, match="no set with mongodb, redis is on this host"):
        newest(tmp_path, ("mongodb", "redis"), signing.PUBLIC)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "20261122T020000Z" / "redis"
    folder.mkdir(parents=True)
    write_part(folder, part("20261122T020000Z"), signing.write_key(tmp_path))
    assert (folder / "manifest.json").stat().st_mode & 0o777 == 0o600
    (folder / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(DbkeepError, match=r"manifest\.json: the manifest is damaged"):
        read_part(tmp_path, "20261122T020000Z", "redis", signing.PUBLIC)
    with pytest.raises(UsageError, match="has no mongodb part"):
        read_part(tmp_path, "20261122T020000Z", "mongodb", signing.PUBLIC)


def test_a_manifest_that_is_not_the_one_of_its_digests_or_place_is_damaged(tmp_path: Path) -> None:
    first, second = tmp_path / "20261122T020000Z" / "redis", tmp_path / "20261123T020000Z" / "redis"
    for folder in (first, second):
        folder.mkdir(parents=True)
    write_part(first, part("20261122T020000Z"), signing.write_key(tmp_path))
    for name in ("manifest.json", "SHA256SUMS", "SHA256SUMS.sig"):
        (second / name).write_bytes((first / name).read_bytes())
    with pytest.raises(DbkeepError, match="the manifest is damaged"):
        read_part(tmp_path, "20261123T020000Z", "redis", signing.PUBLIC)
    damaged: list[str] = []
    assert [list(parts) for parts in read_sets(tmp_path, signing.PUBLIC, damaged)] == [["redis"]]
    assert len(damaged) == 1
    assert newest(tmp_path, ("redis",), signing.PUBLIC) == "20261122T020000Z"
    text = (first / "manifest.json").read_text()
    (first / "manifest.json").write_text(text.replace('"host": "db1"', '"host": "db2"'))
    with pytest.raises(DbkeepError, match="it is not the one of SHA256SUMS"):
        read_part(tmp_path, "20261122T020000Z", "redis", signing.PUBLIC)
    (first / "SHA256SUMS").unlink()
    with pytest.raises(DbkeepError, match="SHA256SUMS is missing"):
        read_part(tmp_path, "20261122T020000Z", "redis", signing.PUBLIC)


def ids(*days: int) -> list[str]:
    return [set_id_of(NOW - timedelta(days=day)) for day in days]


def test_retention_goes_by_age_and_never_takes_the_last_good_copies() -> None:
    def gone(sets: list[str], drilled: list[str]) -> list[str]:
        return expired(sets, NOW, Keep(days=14, minimum=2), drilled=drilled)

    assert gone(ids(1, 5, 13, 15, 20), []) == ids(20, 15)
    assert gone(ids(15, 20, 30), []) == ids(30), "the newest two stay however old"
    assert gone(ids(1, 2, 20, 30), ids(20, 30)) == ids(30), "the newest drilled one stays"
    assert gone([], ids(3)) == []


def test_the_skew_of_a_set_is_the_distance_of_its_moments() -> None:
    assert skew_seconds([NOW, NOW + timedelta(milliseconds=7), NOW]) == 0.007
    assert skew_seconds([]) == 0.0


def test_the_backup_that_is_due_is_by_midnights_since_the_newest_good_one() -> None:
    settings = PostgreSQLBackup(data_directory=Path("/data"), service="x", full_after_days=7, differential_after_days=1)

    def backup(days: float, kind: str = "full", *, error: bool = False) -> dict[str, object]:
        return {"type": kind, "error": error, "timestamp": {"stop": (NOW - timedelta(days=days)).timestamp()}}

    def due(*backups: dict[str, object]) -> str:
        return backup_type(backups, NOW, settings)

    assert due() == "full"
    assert due(backup(6)) == "diff"
    assert due(backup(6), backup(0.05, "diff")) == "incr"
    assert due(backup(6), backup(0.2, "diff")) == "diff", "four hours, but yesterday"
    assert due(backup(6), backup(0.05, "incr")) == "diff"
    assert due(backup(8), backup(1, "incr")) == "full"
    assert due(backup(6.9)) == "full", "late by a timer's random delay"
    assert due(backup(8), backup(1, error=True)) == "full"


VERIFIED = """stanza: chat
status: {status}
  archiveId: 15-1, total WAL checked: 3, total valid WAL: 3
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: 20261122-200224F, status: valid, total files checked: 966, total valid files: {valid}
    missing: 0, checksum invalid: {invalid}, size invalid: 0, other: 0
"""


def test_the_text_of_verify_is_read_because_its_exit_code_says_nothing() -> None:
    assert findings(VERIFIED.format(status="ok", valid=966, invalid=0)) == []
    assert findings(VERIFIED.format(status="error", valid=965, invalid=1)) == [
        "backup 20261122-200224F: 1 files checksum invalid"
    ]
    assert findings("stanza: chat\nstatus: error\n") == ["pgbackrest verify says error"]
    assert findings("") == ["pgbackrest verify gave no status"]


def test_pgbackrests_own_error_is_the_line_that_is_shown() -> None:
    text = (
        "ERROR: [082]: WAL segment 01 was not archived before the 60000ms timeout\n  HINT: check the archive_command\n"
    )
    assert error_line(text) == "ERROR: [082]: WAL segment 01 was not archived before the 60000ms timeout"
    assert error_line("") == "no reason given"
