"""Owners, modes and kinds of files, by path pattern."""

from __future__ import annotations

import grp
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path


def describe_files(patterns: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return owner, group and octal mode of every file and folder that the absolute glob `patterns` match.

    `reach` is "everyone" when users outside owner and group may use it and enter every folder above it.
    """
    found: dict[str, dict[str, str]] = {}
    for pattern in patterns:
        for path in sorted(Path("/").glob(pattern.removeprefix("/"))):
            status = path.stat()
            found[str(path)] = {
                "owner": _name(pwd.getpwuid, status.st_uid),
                "group": _name(grp.getgrgid, status.st_gid),
                "mode": f"{stat.S_IMODE(status.st_mode):04o}",
                "reach": "everyone" if _is_open_to_others(path) else "owner and group",
            }
    return found


def _is_open_to_others(path: Path) -> bool:
    if not path.stat().st_mode & stat.S_IRWXO:
        return False
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def _name(look_up: object, number: int) -> str:
    try:
        return str(look_up(number)[0])  # type: ignore[operator]
    except KeyError:
        return str(number)
