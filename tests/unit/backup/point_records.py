"""A host's sets, slices and points as records, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from dbkeep.backup.log.slices import Slice, write_slice
from dbkeep.backup.manifest import Part, RecoveryPoint, write_part
from dbkeep.backup.points import Point
from dbkeep.backup.settings import BackupHost, BackupSettings, DirectoryStoreSettings, MongoDBBackup, RedisBackup

from ... import signing

START = datetime(2026, 11, 28, 8, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def point(name: str, seconds: float, host: str = "db1", *engines: str) -> Point:
    fences = {engine: RecoveryPoint(at=at(seconds), name=name) for engine in engines or ("mongodb", "redis")}
    return Point(name=name, host=host, began_at=at(seconds - 0.25), skew_seconds=0.25, fences=fences)


def take(host: BackupHost, seconds: float, *engines: str) -> str:
    """Put an empty set into the repository, as if it had been taken."""
    set_id = f"{at(seconds):%Y%m%dT%H%M%SZ}"
    for engine in engines or ("mongodb", "redis"):
        part = Part(
            set_id=set_id,
            engine=engine,
            host="db1",
            server_version="7.0.15",
            recovery_point=RecoveryPoint(at=at(seconds), name="x"),
            started_at=at(seconds),
            seconds=1,
            stored_bytes=1,
            counts={},
            recipients=("age1x",),
            tools={},
        )
        folder = host.sets / set_id / engine
        folder.mkdir(parents=True)
        write_part(folder, part, host.settings.signing_key_file)
    return set_id


def log(host: BackupHost, engine: str, first: float, last: float, *, begins_chain: bool = False) -> None:
    found = Slice(
        engine=engine,
        host="db1",
        first=str(first),
        last=str(last),
        started_at=at(first),
        ended_at=at(last),
        begins_chain=begins_chain,
    )
    write_slice(host.settings.repository, found, host.settings.signing_key_file)


def new_host(tmp_path: Path) -> BackupHost:
    """Make a host of two engines with an empty repository and a store beside it."""
    settings = BackupSettings(
        repository=tmp_path / "backup",
        recipients=("age1x",),
        signing_keys=signing.PUBLIC,
        signing_key_file=signing.write_key(tmp_path),
        stores=(DirectoryStoreSettings(type="directory", name="nas", path=tmp_path / "nas"),),
        mongodb=MongoDBBackup(),
        redis=RedisBackup(data_directory=tmp_path / "redis"),
    )
    (tmp_path / "nas").mkdir()
    (tmp_path / "backup").mkdir()
    return BackupHost(settings)
