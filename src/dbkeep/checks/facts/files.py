"""Owners, modes and kinds of files, by path pattern."""

from __future__ import annotations

import grp
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path


def describe_files(patterns: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return owner, group and octal mode of every file and folder that the absolute glob `patterns` match."""
    found: dict[str, dict[str, str]] = {}
    for pattern in patterns:
        for path in sorted(Path("/").glob(pattern.removeprefix("/"))):
            status = path.stat()
            found[str(path)] = {
                "owner": _name(pwd.getpwuid, status.st_uid),
                "group": _name(grp.getgrgid, status.st_gid),
                "mode": f"{stat.S_IMODE(status.st_mode):04o}",
            }
    return found


def _name(look_up: object, number: int) -> str:
    try:
        return str(look_up(number)[0])  # type: ignore[operator]
    except KeyError:
        return str(number)
