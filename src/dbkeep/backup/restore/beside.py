"""Restores beside the running engines: into a folder, from which throw-away servers are started to look around in it.

Nothing live is touched and nothing of it is archived. The servers listen on sockets within the folder only, so that
only root and the engines' own users reach them.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.restore.fetch import fetched
from dbkeep.backup.restore.mongodb import load, open_part
from dbkeep.backup.restore.redis import loaded
from dbkeep.backup.restore.references import as_json, compare_here
from dbkeep.backup.restore.replay_mongodb import carry_on
from dbkeep.backup.restore.run import engine_restore
from dbkeep.backup.restore.target import Choice, Chosen, Target, choose
from dbkeep.backup.restore.target_postgresql import restore_files
from dbkeep.backup.run import LOCK
from dbkeep.backup.sealed_file import read_identities
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.verify import verify_part, verify_slices
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.evidence import now, record, write
from dbkeep.files import write_atomically
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import connect
from dbkeep.sandbox import mongodb as mongodb_sandbox
from dbkeep.sandbox import postgresql as postgresql_sandbox
from dbkeep.sandbox import redis as redis_sandbox

RECORD = "restored.json"
RECOVERY_SECONDS = 24 * 3600
# What has expired since the moment is still to be seen.
PARAMETERS = {"ttlMonitorEnabled": "false"}


def restore_beside(
    host: BackupHost,
    target: Target,
    engines: Sequence[str],
    identity: str,
    directory: Path,
    *,
    store: str = LOCAL,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Restore the engines to `target` into the folder `directory`, see that they answer, and return evidence of it.

    The servers are stopped then; `serving` starts them again. When a step fails, the folder is removed.

    Raises DbkeepError, UsageError for a folder that cannot be used, a missing part or a wrong identity.
    """
    read_identities(identity)
    _check_folder(host, directory)
    wanted, started = host.chosen(tuple(engines)), now()
    choice = choose(host, target, wanted, store)
    try:
        directory.mkdir(mode=0o711, exist_ok=True)
        directory.chmod(0o711)
        with fetched(host, store, choice.engines, progress) as source, ExitStack() as kept:
            for set_id in {one.part.set_id for one in choice.engines.values()}:
                kept.enter_context(hold(source.sets / set_id / LOCK, f"restore into {directory}", shared=True))
            _check_bytes(source, choice.engines)
            for engine, one in choice.engines.items():
                progress(f"{engine}: restoring set {one.part.set_id} to {one.at.isoformat()} into {directory}")
                (directory / engine).mkdir(mode=0o711)
                _load(source, one, identity, directory / engine, progress)
            observed = _observed(target, store, directory, choice)
            write_atomically(directory / RECORD, json.dumps(observed, indent=2) + "\n", mode=0o600)
            # PostgreSQL recovers with its first start, from what was fetched.
            observed |= _look(host, directory, wanted)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    evidence = record("restore", started=started, passed=True, observed=observed)
    write(evidence, host.settings.evidence)
    return evidence


def _observed(target: Target, store: str, directory: Path, choice: Choice) -> dict[str, Any]:
    return {
        "target": str(target),
        "store": store,
        "directory": str(directory),
        "skew_seconds": choice.skew_seconds,
        "engines": {
            engine: {
                "set_id": one.part.set_id,
                "slices": len(one.slices),
                "recovery_point": one.at.isoformat(),
                "redis": _directives(one) if engine == "redis" else {},
            }
            for engine, one in choice.engines.items()
        },
    }


def _check_folder(host: BackupHost, directory: Path) -> None:
    if not directory.is_absolute():
        raise UsageError(f"{directory} is no absolute path: name a folder of the database host, such as /srv/look")
    own = [host.settings.repository, *(getattr(host.settings, engine).data_directory for engine in host.engines)]
    for taken in own:
        if directory.resolve().is_relative_to(taken.resolve()):
            raise UsageError(f"{directory} is in {taken}, which is in use; name another folder")
    if not directory.parent.is_dir():
        raise UsageError(f"{directory.parent} is not there; name a folder below one that is")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is there already and not an empty folder; name a new one")


def _check_bytes(host: BackupHost, chosen: Mapping[str, Chosen]) -> None:
    for engine, one in chosen.items():
        problems = verify_part(host, one.part) + verify_slices(host, one.slices)
        if problems:
            raise DbkeepError(f"{engine}: set {one.part.set_id} is damaged: {problems[0]}; nothing was restored")


def _load(host: BackupHost, one: Chosen, identity: str, folder: Path, progress: Progress) -> None:
    """Fill an engine's folder with data that the sandboxes start from. The files opened on the way do not stay."""
    if one.part.engine == "postgresql":
        data = folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = pwd.getpwnam(host.with_postgresql()[0].os_user)
            os.chown(data, user.pw_uid, user.pw_gid)
        restore_files(host, one.part, identity, data, archive=False, target=one.point)
    elif one.part.engine == "mongodb":
        _load_mongodb(host, one, identity, folder, progress)
    else:
        with loaded(host, one.part, identity, folder, one.point):
            progress("redis: loaded")
        (folder / "dump.rdb").unlink(missing_ok=True)


def _load_mongodb(host: BackupHost, one: Chosen, identity: str, folder: Path, progress: Progress) -> None:
    database = host.with_mongodb()[1].database
    stored = host.sets / one.part.set_id / one.part.engine
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        replay = carry_on(host, one.part, identity, Path(workspace), one.point, progress=progress)
        with (
            open_part(stored, one.part, identity, Path(workspace)) as stream,
            mongodb_sandbox.start(folder / "server", unix_socket=True, parameters=PARAMETERS) as copy,
            connect(copy) as client,
        ):
            load(client, stream, database, one.part.files[0].name, replay)


def _directives(one: Chosen) -> dict[str, str]:
    names = one.part.details["configuration"]
    return {"appendonly": "yes" if one.point else "no"} | {
        name: names[name] for name in ("appenddirname", "appendfilename")
    }


def _look(host: BackupHost, directory: Path, engines: Sequence[str]) -> dict[str, Any]:
    """Start the servers and return what is in them, and what dangles between them."""
    with serving(host, directory) as copies:
        counts = {engine: engine_restore(engine).live_counts(copies) for engine in engines}
        references = as_json(compare_here(copies) if copies.postgresql else [])
    return {"counts": counts, **references}


@contextmanager
def serving(host: BackupHost, directory: Path) -> Iterator[BackupHost]:
    """Start the servers of a folder that `restore_beside` filled and yield how they are reached; stop them on exit.

    Raises UsageError when the folder is none of those, DbkeepError when a server does not start.
    """
    try:
        restored = json.loads((directory / RECORD).read_text(encoding="utf-8"))["engines"]
    except (OSError, ValueError, KeyError):
        raise UsageError(f"{directory}: no restore was made into this folder (`dbkeep restore --target`)") from None
    copies = replace(host, postgresql=None, mongodb=None, redis=None)
    with ExitStack() as stack:
        if "postgresql" in restored:
            folder, database = directory / "postgresql", host.with_postgresql()[1].database
            started = postgresql_sandbox.start(
                folder / "server", data_directory=folder / "data", timeout=RECOVERY_SECONDS
            )
            reached = stack.enter_context(started).model_copy(update={"database": database})
            copies = replace(copies, postgresql=reached)
        if "mongodb" in restored:
            server = mongodb_sandbox.start(
                directory / "mongodb" / "server", unix_socket=True, parameters=PARAMETERS, initiate=False
            )
            found = stack.enter_context(server).model_copy(update={"database": host.with_mongodb()[1].database})
            bootstrap.wait_for_primary(found)
            copies = replace(copies, mongodb=found)
        if "redis" in restored:
            backup, live = host.with_redis()
            instances = redis_sandbox.start(
                directory / "redis" / "server",
                {backup.instance: restored["redis"]["redis"]},
                server=live.server,
                program=redis_sandbox.find_program(live.server, live.command),
            )
            copies = replace(copies, redis=stack.enter_context(instances))
        yield copies


def how_to_reach(copies: BackupHost) -> list[str]:
    """Return a command for each of the servers that `serving` started."""
    lines = []
    if copies.postgresql:
        lines.append(f"psql -h {copies.postgresql.socket_directory} -U postgres -d {copies.postgresql.database}")
    if copies.mongodb:
        lines.append(f"mongosh mongodb://{quote_plus(copies.mongodb.host)}/{copies.mongodb.database}")
    for instance in copies.redis.instances.values() if copies.redis else ():
        password = f"REDISCLI_AUTH=$(cat {instance.password_file})"
        lines.append(f"{password} redis-cli -s {instance.socket} --user {instance.user}")
    return lines
