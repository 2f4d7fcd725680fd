"""A base is read while it is written, to its last byte, and never one that another rewrite made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dbkeep.backup.log.append_only_file import write_manifest
from dbkeep.backup.rewritten_base import RewrittenBase
from dbkeep.errors import DbkeepError

BEFORE = datetime.now(UTC) - timedelta(minutes=1)


def rewrite(folder: Path, *, replaced: bool) -> Callable[[], bool]:
    """Return what a server would say at each question while its child writes `folder`'s base."""
    child = folder / "temp-rewriteaof-7.aof"
    (folder / "appendonlydir").mkdir()
    base, incremental = write_manifest(folder / "appendonlydir", "appendonly.aof")
    incremental.touch()

    def steps() -> Iterator[bool]:
        child.write_bytes(b"begin")
        yield True
        with child.open("ab") as file:
            file.write(b" middle")
        yield True
        with child.open("ab") as file:
            file.write(b" end")
        child.rename(base)
        if replaced:
            base.unlink()
            base.write_bytes(b"of another rewrite")
        while True:
            yield False

    answers = steps()
    return lambda: next(answers)


def read(base: RewrittenBase) -> bytes:
    return b"".join(iter(lambda: base.read(4), b""))


def test_all_of_it_is_read_while_it_is_written(tmp_path: Path) -> None:
    # So many that one of them is found first.
    for number in range(100, 150):
        killed = tmp_path / f"temp-rewriteaof-{number}.aof"
        killed.write_bytes(b"of a child that was killed")
        os.utime(killed, (0, 0))
    with RewrittenBase(tmp_path, 1, BEFORE, rewrite(tmp_path, replaced=False)) as base:
        assert read(base) == b"begin middle end"


def test_one_that_another_rewrite_replaced_is_refused(tmp_path: Path) -> None:
    with (
        RewrittenBase(tmp_path, 1, BEFORE, rewrite(tmp_path, replaced=True)) as base,
        pytest.raises(DbkeepError, match="rewritten again meanwhile"),
    ):
        read(base)


def test_a_complete_one_is_read_from_its_place_and_a_later_one_is_not_taken_for_it(tmp_path: Path) -> None:
    writing = rewrite(tmp_path, replaced=False)
    while writing():
        pass
    with RewrittenBase(tmp_path, 1, BEFORE, writing) as base:
        assert read(base) == b"begin middle end"
    with RewrittenBase(tmp_path, 2, BEFORE, writing) as base, pytest.raises(DbkeepError, match="rewritten again"):
        read(base)
