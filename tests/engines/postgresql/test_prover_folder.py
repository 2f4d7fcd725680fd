"""The prover's folder goes with its run, and what a killed run left goes with the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dbkeep.postgresql.prove import folder as folders

HOLD = """
from dbkeep.postgresql.prove import folder
with folder.fresh() as made:
    (made / "data").mkdir()
    print(made, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither this machine's memory nor its /tmp: other runs live there."""
    monkeypatch.setattr(folders, "MEMORY", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_removed_at_the_end(place: Path) -> None:
    with folders.fresh() as folder:
        (folder / "file").touch()
        assert folder.parent == place
    assert list(place.iterdir()) == []


def test_a_run_removes_what_a_killed_one_left_and_nothing_else(place: Path) -> None:
    (place / f"{folders.PREFIX}file").touch()
    (place / "target").mkdir()
    (place / f"{folders.PREFIX}link").symlink_to(place / "target")
    others = set(place.iterdir())
    code = f"from pathlib import Path\nfrom dbkeep.postgresql.prove import folder\nfolder.MEMORY = Path({str(place)!r})"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{code}\nfolder.MEMORY_NEEDED = 0\n{HOLD}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(place)},
    )
    with holder:
        assert holder.stdout is not None
        held = Path(holder.stdout.readline().strip())
        with folders.fresh() as folder:
            assert set(place.iterdir()) == others | {held, folder}
        holder.kill()
    assert held.is_dir()
    with folders.fresh() as folder:
        assert set(place.iterdir()) == others | {folder}
