"""The backups of this host: what is in the repository, whether it is ciphertext, the timers, the last drill."""

from __future__ import annotations

import json
import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbkeep import evidence
from dbkeep.backup import manifest
from dbkeep.backup.catalog import score_here, stores
from dbkeep.backup.clock import is_past
from dbkeep.backup.drill.history import drilled_point
from dbkeep.backup.log.ship import STATE
from dbkeep.backup.log.slices import newest_slice
from dbkeep.backup.points import read_points
from dbkeep.backup.settings import BackupHost, PostgreSQLBackup, read_host
from dbkeep.backup.stores.prove import prove_stores
from dbkeep.checks.facts.files import describe_files
from dbkeep.checks.facts.programs import json_of, properties_of, units_of

AGE_HEADER = b"age-encryption.org/v1\n"  # age-encryption.org/v1, "File format"
OPENSSL_SALT = b"Salted__"  # what pgBackRest writes before AES-256-CBC blocks
IDENTITY = re.compile(rb"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}")  # age(1): Bech32, upper case
KEY_FOLDERS = ("/etc", "/root", "/home", "/var/lib/dbkeep", "/opt/chat_api")
TIMERS = ("dbkeep-*.timer",)
SERVICES = ("dbkeep-*.service",)
SMALL = 1024 * 1024


def gather(request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - every observer has this shape
    host = read_host()
    sets = list(manifest.read_sets(host.sets, host.settings.signing_keys))
    repository = host.settings.repository
    return {
        "versions": {},
        "engines": list(host.engines),
        "newest": {name: _newest(name, sets, host) for name in host.engines},
        "sets": len(sets),
        "from_the_future": [name for name in manifest.set_ids(host.sets) if not is_past(manifest.time_of(name))],
        "recipients": len(host.settings.recipients),
        "postgresql": _postgresql(host),
        "files": describe_files([str(repository), f"{repository}/*", f"{repository}/sets/*/*"]),
        "timers": properties_of(
            units_of("--all", *TIMERS), ("ActiveState", "UnitFileState", "LastTriggerUSec", "Unit")
        ),
        "services": properties_of(units_of("--all", *SERVICES), ("Result", "ExecMainStatus", "ActiveState")),
        "stores": _stores(host),
        "run": _last_run(host.settings.evidence),
        "log": _log(host),
        "points": _points(host),
        "drill": _last_drill(host),
        "score": score_here(host),
        "identities_on_host": _identities(),
    }


def _hours_since(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds() / 3600, 2)


def _newest(engine: str, sets: list[dict[str, manifest.Part]], host: BackupHost) -> dict[str, Any] | None:
    """Return the age of the newest part of an engine and which of its files are not what the manifest says."""
    parts = [parts[engine] for parts in sets if engine in parts]
    if not parts:
        return None
    part = max(parts, key=lambda part: part.recovery_point.order)
    folder = host.sets / part.set_id / engine
    return {
        "set_id": part.set_id,
        "at": part.recovery_point.at.isoformat(),
        "age_hours": _hours_since(part.recovery_point.at),
        "seconds": part.seconds,
        "stored_bytes": part.stored_bytes,
        "files": {file.name: _state_of(folder / file.name, file.size) for file in part.files},
        "recipients": len(part.recipients),
    }


def _state_of(path: Path, size: int) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(len(AGE_HEADER))
    except FileNotFoundError:
        return "missing"
    if path.stat().st_size != size:
        return "another size than in the manifest"
    return "ciphertext" if head.startswith((AGE_HEADER, OPENSSL_SALT)) else "not ciphertext"


def _stores(host: BackupHost) -> list[dict[str, Any]]:
    """Return what every store proved, the days of its locks, and the parts that it holds."""
    held = stores(host)
    days = {settings.name: getattr(settings, "lock_days", 0) for settings in host.settings.stores}
    return [{**row, "lock_days": days[row["name"]], **held[row["name"]]} for row in prove_stores(host)]


def _postgresql(host: BackupHost) -> dict[str, Any] | None:
    """Return what PostgreSQL's repository is sealed with, and how many of its files do not begin as ciphertext."""
    if host.settings.postgresql is None:
        return None
    root = host.settings.repository / "postgresql"
    sealed = [path for path in (root / "wal").rglob("*") if _is_plain_file(path)]
    files = [path for path in root.rglob("*") if _is_plain_file(path) and path not in sealed]
    wrong = [path for path in files if not _begins_with(path, OPENSSL_SALT)]
    wrong += [path for path in sealed if not _begins_with(path, AGE_HEADER)]
    found = {"files": len(files) + len(sealed), "not_ciphertext": [str(path) for path in wrong][:5]}
    if host.settings.postgresql.engine == "basebackup":
        return {"cipher": "age", **found}
    return {**_pgbackrest(host.settings.postgresql, host.settings.repository), **found}


def _pgbackrest(postgresql: PostgreSQLBackup, repository: Path) -> dict[str, Any]:
    """Return what pgBackRest says of the chain that backups are taken into."""
    from dbkeep.backup.pgbackrest_chains import chains  # noqa: PLC0415 - hosts without PostgreSQL need it never

    chain = chains(repository, postgresql.stanza)[-1]
    command = ["runuser", "-u", postgresql.os_user, "--", "pgbackrest"]
    options = [f"--config={postgresql.configuration}", f"--stanza={chain}", "--output=json", "info"]
    stanza = json_of(*command, *options)[0]
    return {"status": stanza["status"]["message"], "cipher": stanza["cipher"], "backups": len(stanza["backup"])}


def _is_plain_file(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _begins_with(path: Path, prefix: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(prefix)) == prefix
    except FileNotFoundError:
        return True  # it expired while we looked


def _last_run(folder: Path) -> dict[str, Any] | None:
    record = next(evidence.read_all("backup", folder), None)
    return record and {"passed": record["result"] == "passed", "finished_at": record["finished_at"]}


def _points(host: BackupHost) -> dict[str, Any]:
    """Return how often a point is set, and the newest one's age, engines and skew."""
    newest = max(read_points(host), key=lambda point: point.place, default=None)
    return {
        "every_minutes": host.settings.point_minutes,
        "newest": newest
        and {
            "age_minutes": round((datetime.now(UTC) - newest.at).total_seconds() / 60, 1),
            "engines": sorted(newest.fences),
            "skew_seconds": newest.skew_seconds,
        },
    }


def _log(host: BackupHost) -> dict[str, Any]:
    """Return how old the newest slice of each engine's log is, and what of the last round failed."""
    newest = {
        engine: newest_slice(host.settings.repository, engine, host.settings.signing_keys) for engine in host.engines
    }
    state = host.settings.repository / STATE
    return {
        "every_seconds": host.settings.ship_seconds,
        "age_seconds": {
            engine: round((datetime.now(UTC) - found.ended_at).total_seconds(), 1) if found else None
            for engine, found in newest.items()
        },
        "faults": json.loads(state.read_text(encoding="utf-8"))["faults"] if state.exists() else {},
    }


def _last_drill(host: BackupHost) -> dict[str, Any] | None:
    """Return the last drill, and the newest recovery point that any drill proved: the two may be of different sets."""
    record = next(evidence.read_all("drill", host.settings.evidence), None)
    if record is None:
        return None
    point = drilled_point(host.settings.evidence, host.engines)
    return {
        "passed": record["result"] == "passed",
        "finished_at": record["finished_at"],
        "rpo_seconds": record["observed"]["rpo_seconds"],
        "rto_seconds": record["observed"]["rto_seconds"],
        "point": point.isoformat() if point else None,
        "point_age_hours": _hours_since(point) if point else None,
    }


def _identities() -> list[str]:
    """Return the files on this host that hold a key which opens the backups."""
    found = []
    for top in KEY_FOLDERS:
        for folder, _, names in os.walk(top):
            for path in (Path(folder) / name for name in names):
                if _is_plain_file(path) and path.stat().st_size <= SMALL and IDENTITY.search(path.read_bytes()):
                    found.append(str(path))
    return sorted(found)
