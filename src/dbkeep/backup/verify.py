"""Compares the stored bytes of sets with their manifests, without decrypting anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from dbkeep.backup.lock import hold
from dbkeep.backup.manifest import Part, part_engines, read_part
from dbkeep.backup.run import LOCK
from dbkeep.backup.settings import BackupHost
from dbkeep.backup.store import check
from dbkeep.errors import DbkeepError, UsageError


def verify_part(host: BackupHost, part: Part) -> list[str]:
    """Return what is wrong with one part; an empty list when every stored byte is as it was written."""
    problems = []
    for stored in part.files:
        try:
            check(host.sets / part.set_id / part.engine, stored)
        except DbkeepError as error:
            problems.append(str(error))
    if part.engine == "postgresql":
        from dbkeep.backup import postgresql  # noqa: PLC0415 - hosts without PostgreSQL do not load its driver

        if host.settings.postgresql is None:
            raise UsageError(f"set {part.set_id} has a postgresql part, backup.json has none; run playbooks/site.yml")
        try:
            problems += postgresql.verify(host.settings.postgresql, part)
        except DbkeepError as error:
            problems.append(str(error))
    return problems


def verify(host: BackupHost, set_id: str, engines: Sequence[str] | None = None) -> dict[str, Any]:
    """Check the parts of a set on this host and return problems by engine.

    Raises UsageError when the set has no part here, BusyError when retention removes it right now.
    """
    there = part_engines(host.sets, set_id) if (host.sets / set_id).is_dir() else []
    chosen = list(engines) if engines else there
    if not there:
        raise UsageError(f"set {set_id} is not on this host; `dbkeep backup list` shows what there is")
    problems: dict[str, list[str]] = {}
    with hold(host.sets / set_id / LOCK, f"verify, process {os.getpid()}", shared=True):
        for engine in chosen:
            try:
                problems[engine] = verify_part(host, read_part(host.sets, set_id, engine))
            except DbkeepError as error:
                problems[engine] = [str(error)]
    return {"set_id": set_id, "ok": not any(problems.values()), "problems": problems}
