"""Slices: what is written is read, damage is named, a chain has no gap, and what no set needs goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbkeep.backup.clock import place
from dbkeep.backup.log.slices import (
    Slice,
    chain_after,
    end_after,
    newest_slice,
    prune_slices,
    read_slices,
    remove_unfinished,
    slice_keys,
    started_after,
    write_slice,
)
from dbkeep.backup.manifest import RecoveryPoint, StoredFile
from dbkeep.backup.signature import new_signing_key
from dbkeep.errors import DbkeepError

from ... import signing

START = datetime(2026, 11, 28, 8, tzinfo=UTC)


def at(position: int) -> datetime:
    return START + timedelta(seconds=position)


def piece(first: int, last: int, *, begins_chain: bool = False) -> Slice:
    return Slice(
        engine="mongodb",
        host="db1",
        first=str(first),
        last=str(last),
        started_at=at(first),
        ended_at=at(last),
        begins_chain=begins_chain,
        files=(StoredFile(name=f"{place(at(last))}.zst.age", size=1, sha256="0" * 64, plain_size=1),),
    )


CHAIN = [piece(8, 10, begins_chain=True), piece(10, 20), piece(20, 30)]


def moment_of(position: int) -> RecoveryPoint:
    return RecoveryPoint(at=at(position), name="")


def keep(repository: Path, found: Slice) -> None:
    write_slice(repository, found, signing.write_key(repository))


def unsigned(found: list[Slice]) -> list[Slice]:
    return [one.model_copy(update={"signature": ""}) for one in found]


def positions(chain: list[Slice]) -> list[tuple[str, str]]:
    return [(found.first, found.last) for found in chain]


def test_what_is_written_is_read_oldest_first(tmp_path: Path) -> None:
    for found in reversed(CHAIN):
        keep(tmp_path, found)
    assert unsigned(read_slices(tmp_path, "mongodb", signing.PUBLIC)) == CHAIN
    assert newest_slice(tmp_path, "mongodb", signing.PUBLIC) == read_slices(tmp_path, "mongodb", signing.PUBLIC)[-1]
    assert (tmp_path / "log/mongodb/20261128T080010.000000Z.json").stat().st_mode & 0o777 == 0o600
    assert unsigned(read_slices(tmp_path, "redis", signing.PUBLIC)) == []
    assert newest_slice(tmp_path, "redis", signing.PUBLIC) is None


def test_a_slice_is_never_written_over(tmp_path: Path) -> None:
    keep(tmp_path, piece(1, 2))
    with pytest.raises(DbkeepError, match="already"):
        keep(tmp_path, piece(0, 2))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"last": "20"', '"last": "30"'),
        lambda text: text.replace('"begins_chain": false', '"begins_chain": true'),
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: '{"slice": 1}',
        lambda _: "",
    ],
)
def test_an_altered_record_is_named_and_hides_no_other(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    for found in CHAIN:
        keep(tmp_path, found)
    path = tmp_path / CHAIN[1].key
    path.write_text(change(path.read_text()))
    damaged: list[str] = []
    assert unsigned(read_slices(tmp_path, "mongodb", signing.PUBLIC, damaged)) == [CHAIN[0], CHAIN[2]]
    assert len(damaged) == 1
    assert str(path) in damaged[0]


def test_a_record_that_another_key_signed_is_none_of_ours(tmp_path: Path) -> None:
    write_slice(tmp_path, CHAIN[0], signing.write_key(tmp_path, new_signing_key()))
    damaged: list[str] = []
    assert read_slices(tmp_path, "mongodb", signing.PUBLIC, damaged) == []
    assert "no host of this environment wrote it" in damaged[0]


def test_a_record_under_another_name_is_damaged(tmp_path: Path) -> None:
    keep(tmp_path, CHAIN[0])
    path = tmp_path / CHAIN[0].key
    path.rename(path.with_name("20261128T090000.000000Z.json"))
    damaged: list[str] = []
    assert unsigned(read_slices(tmp_path, "mongodb", signing.PUBLIC, damaged)) == []
    assert "20261128T090000" in damaged[0]


@pytest.mark.parametrize(
    ("after", "until", "expected"),
    [
        ("9", "25", [("8", "10"), ("10", "20"), ("20", "30")]),
        ("10", "20", [("10", "20")]),
        ("15", "21", [("10", "20"), ("20", "30")]),
        ("25", None, [("20", "30")]),
        ("30", None, [("20", "30")]),
    ],
)
def test_a_chain_goes_from_the_sets_point_to_the_target(
    after: str, until: str | None, expected: list[tuple[str, str]]
) -> None:
    assert positions(chain_after(CHAIN, after, until, int)) == expected
    moment = moment_of(int(until)) if until else None
    assert positions(chain_after(CHAIN, moment_of(int(after)), moment, int)) == expected


def test_positions_are_compared_in_the_engines_order() -> None:
    # As text "9" would be after "10".
    assert positions(chain_after(CHAIN, "9", "10", int)) == [("8", "10")]


def test_a_missing_slice_is_a_gap_that_is_named() -> None:
    with pytest.raises(DbkeepError, match=r"gap between slice 20261128T080010.*a slice is missing") as error:
        chain_after([CHAIN[0], CHAIN[2]], "9", "25", int)
    assert CHAIN[2].name in str(error.value)


def test_a_slice_that_begins_a_chain_is_carried_on_from_later_sets_only() -> None:
    broken = [*CHAIN, piece(30, 40, begins_chain=True), piece(40, 50)]
    with pytest.raises(DbkeepError, match="lost before it was sealed"):
        chain_after(broken, "25", "45", int)
    assert positions(chain_after(broken, "25", "30", int)) == [("20", "30")]
    assert positions(chain_after(broken, "30", "45", int)) == [("30", "40"), ("40", "50")]


def test_a_set_before_all_slices_and_a_target_after_them_are_refused() -> None:
    with pytest.raises(DbkeepError, match="gap after 7"):
        chain_after(CHAIN, "7", "9", int)
    with pytest.raises(DbkeepError, match="end at 30"):
        chain_after(CHAIN, "9", "31", int)
    with pytest.raises(DbkeepError, match="no slices"):
        chain_after([], "9", None, int)


def test_a_slice_after_a_clock_that_was_set_back_says_its_own_time_and_is_named_after_the_one_before() -> None:
    assert end_after(None, at(5)) == (at(5), {})
    assert end_after(CHAIN[-1], at(31)) == (at(31), {})
    assert end_after(CHAIN[-1], at(29)) == (at(30) + timedelta(microseconds=1), {})
    assert end_after(CHAIN[-1], at(5)) == (at(5), {"after": CHAIN[-1].name})


def after_a_jump(first: int, last: int, seconds: int, before: Slice) -> Slice:
    """A slice of positions that do not follow the clock, which ends at a second of it."""
    ended_at, details = end_after(before, at(seconds))
    moments = {"started_at": before.ended_at, "ended_at": ended_at}
    return piece(first, last).model_copy(
        update={**moments, "details": details | started_after(before.after), "files": ()}
    )


def test_a_chain_follows_the_slices_and_not_the_clock(tmp_path: Path) -> None:
    ahead = after_a_jump(30, 40, 500, CHAIN[-1])
    back = after_a_jump(40, 50, 60, ahead)
    later = after_a_jump(50, 60, 80, back)
    passed = after_a_jump(60, 70, 520, later)
    every = [*CHAIN, ahead, back, later, passed]
    for found in every:
        keep(tmp_path, found)
    assert unsigned(read_slices(tmp_path, "mongodb", signing.PUBLIC)) == every
    set_back = RecoveryPoint(at=at(50), name="", after=ahead.name)
    until = RecoveryPoint(at=at(70), name="", after=ahead.name)
    assert chain_after(every, set_back, until, int) == [back, later]
    assert chain_after(every, set_back, moment_of(510), int) == [back, later, passed]
    assert chain_after(every, moment_of(400), until, int) == [ahead, back, later]
    assert prune_slices(tmp_path, "mongodb", set_back.place) == [found.name for found in (*CHAIN, ahead)]


def test_retention_removes_what_ends_before_the_oldest_set(tmp_path: Path) -> None:
    for found in CHAIN:
        keep(tmp_path, found)
        (tmp_path / "log/mongodb" / found.files[0].name).write_bytes(b"x")
    assert prune_slices(tmp_path, "mongodb", moment_of(15).place) == [CHAIN[0].name]
    assert unsigned(read_slices(tmp_path, "mongodb", signing.PUBLIC)) == CHAIN[1:]
    assert not (tmp_path / "log/mongodb" / CHAIN[0].files[0].name).exists()
    assert (tmp_path / "log/mongodb" / CHAIN[1].files[0].name).exists()


def test_what_a_killed_cut_left_goes_and_damage_stays(tmp_path: Path) -> None:
    folder = tmp_path / "log/mongodb"
    keep(tmp_path, CHAIN[0])
    keep(tmp_path, CHAIN[1])
    (tmp_path / CHAIN[1].key).write_text("damaged")
    kept = [*folder.iterdir()]
    for found in CHAIN[:2]:
        kept.append(folder / found.files[0].name)
    left = [folder / name for name in ("cutting.oplog.zst.age.partial", CHAIN[2].files[0].name, ".x.json.ab12")]
    for path in [*kept[2:], *left]:
        path.write_bytes(b"x")
    remove_unfinished(tmp_path, "mongodb")
    assert sorted(folder.iterdir()) == sorted(kept)


def test_keys_of_a_store_are_told_apart() -> None:
    keys = [
        CHAIN[1].key,
        CHAIN[0].key,
        "log/mongodb/10.zst.age",
        "log/redis/20261128T080010.000000Z.json",
        "sets/x.json",
    ]
    assert slice_keys(keys, "mongodb") == [CHAIN[0].key, CHAIN[1].key]
