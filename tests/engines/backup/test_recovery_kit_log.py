"""The commands of docs/recovery-kit.md carry a set on to a moment after it, and take no slice that nobody signed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage
import pytest

from dbkeep.backup.log.mongodb import cut
from dbkeep.backup.log.slices import local_keys, newest_slice
from dbkeep.backup.manifest import Part, set_id_of
from dbkeep.backup.run import run
from dbkeep.backup.settings import BackupHost
from dbkeep.mongodb.connect import Client
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.sandbox import mongodb as mongodb_sandbox

from .mongodb_log_host import IDENTITY, documents_and_indexes, mongodb_host
from .postgresql_hosts import Engine, PostgreSQLHost, make_host
from .recovery_kit import Operator, block, open_and_fetch, operator

BEGIN = open_and_fetch()
CHAIN = block("bash", "chain() {")


def pause() -> datetime:
    """Return a moment after all that was written and before all that will be."""
    time.sleep(0.05)
    moment = datetime.now(UTC)
    time.sleep(0.05)
    return moment


@contextmanager
def working(folder: Path, host: BackupHost, identity: str, part: Part) -> Iterator[Operator]:
    """An operator with an empty kit, for whom the host's repository is the store."""
    variables = {"DIRECTORY": str(host.settings.repository), "SET": part.set_id}
    place = folder / f"operator-{datetime.now(UTC):%H%M%S%f}"
    place.mkdir()
    place.chmod(0o755)
    yield operator(place, identity, host.settings.recipients, variables)
    shutil.rmtree(place)


@pytest.fixture(scope="module", params=["pgbackrest", "basebackup"])
def postgresql(folder: Path, request: pytest.FixtureRequest) -> Iterator[PostgreSQLHost]:
    engine: Engine = request.param
    place = folder / engine
    place.mkdir(mode=0o755)
    with make_host(place, engine, str(pyrage.x25519.Identity.generate())) as made:
        yield made


def restored_rows(host: PostgreSQLHost, part: Part, moment: datetime | None) -> list[int]:
    """Restore with the page's commands, to a moment or to the set itself, and return what is there."""
    restore = block("bash", "pgbackrest.conf") if part.details["engine"] == "pgbackrest" else block("sh", "base.tar")
    commands = (*BEGIN, CHAIN, block("bash", "as_postgres() {"), restore)
    with working(host.folder, host.host, host.identity, part) as kit:
        pg = kit.kit / "pg"
        try:
            done = kit.run(*commands, TIME=moment.isoformat() if moment else "")
            assert done.returncode == 0, done.stdout + done.stderr
            query = ["psql", "-X", "-U", "postgres", "-h", str(pg / "socket"), "-d", "chat", "-Atc"]
            state = "SELECT pg_is_in_recovery(), current_setting('archive_mode')"
            assert subprocess.check_output([*query, state], text=True).strip() == "f|off"
            rows = subprocess.check_output([*query, "SELECT n FROM chat.records ORDER BY n"], text=True)
            return [int(row) for row in rows.split()]
        finally:
            stop_postgresql(pg)


def stop_postgresql(pg: Path) -> None:
    pid = pg / "data/postmaster.pid"
    subprocess.run(["sh", "-c", f"kill -INT $(head -n 1 {pid})"], capture_output=True, check=False)
    while pid.exists():
        time.sleep(0.05)


@pytest.fixture(scope="module")
def written(postgresql: PostgreSQLHost) -> tuple[Part, dict[str, datetime | None]]:
    """A set that has the record 1, a moment between the records 2 and 3, and one after which nothing was written."""
    postgresql.write(1)
    part = postgresql.take()
    postgresql.cut()
    postgresql.write(2)
    between = pause()
    postgresql.write(3)
    postgresql.cut()
    idle = pause()
    postgresql.cut()
    return part, {"set": None, "between": between, "idle": idle}


@pytest.mark.parametrize(
    ("target", "rows"),
    [
        ("between", [1, 2]),
        pytest.param("set", [1], marks=pytest.mark.long),
        pytest.param("idle", [1, 2, 3], marks=pytest.mark.long),
    ],
)
def test_both_engines_of_postgresql_go_to_a_moment_by_plain_commands(
    postgresql: PostgreSQLHost, written: tuple[Part, dict[str, datetime | None]], target: str, rows: list[int]
) -> None:
    part, moments = written
    assert restored_rows(postgresql, part, moments[target]) == rows


@pytest.fixture(scope="module")
def host(folder: Path) -> Iterator[BackupHost]:
    with mongodb_host(folder) as found:
        yield found


def ship(host: BackupHost) -> None:
    cut(host, newest_slice(host.settings.repository, "mongodb", host.settings.signing_keys))


def take(host: BackupHost) -> Part:
    time.sleep(1)  # a set's id has whole seconds
    (part,) = run(host, set_id_of(datetime.now(UTC)), ["mongodb"])
    return part


def transactions(client: Client) -> None:
    database = client["chat"]
    database["small"].insert_one({"_id": 0})
    database["left"].rename("right")

    def write(session: Any) -> None:
        for mebibytes in (7, 12):  # more than an entry of the oplog holds
            database["big"].insert_one({"_id": mebibytes, "text": "x" * (mebibytes << 20)}, session=session)
        database["small"].update_one({"_id": 0}, {"$set": {"n": 1}}, session=session)

    with client.start_session() as session:
        session.with_transaction(write)
    with client.start_session() as session:
        session.start_transaction()
        database["small"].insert_one({"_id": "never"}, session=session)
        session.abort_transaction()
    database["shaped"].delete_many({"n": {"$gte": 150}})


def contents(client: Client) -> dict[str, Any]:
    """Every document, option and index of the database."""
    database = client["chat"]
    return {
        name: (
            list(database[name].find(sort=[("_id", 1)])),
            database[name].options(),
            database[name].index_information(),
        )
        for name in database.list_collection_names()
    }


def test_mongodb_goes_to_a_moment_by_plain_commands(host: BackupHost, folder: Path) -> None:
    assert host.mongodb is not None
    with mongodb(host.mongodb) as client:
        client["chat"]["left"].insert_one({"_id": 1})
        ship(host)
        part = take(host)
        for change in (documents_and_indexes, transactions):
            change(client)
            ship(host)
        expected = contents(client)
        moment = pause()
        client["chat"]["left"].insert_one({"_id": "after"})
        client["chat"]["shaped"].drop()
        ship(host)
    assert expected["small"][0] == [{"_id": 0, "n": 1}]
    with working(folder, host, IDENTITY, part) as kit:
        commands = (*BEGIN, CHAIN, block("bash", "mongo/dump.archive.zst"), block("sh", "chain mongodb"))
        done = kit.run(*commands, TIME=moment.isoformat())
        assert done.returncode == 0, done.stdout + done.stderr
        with mongodb_sandbox.start(kit.kit / "mongod") as settings, mongodb(settings) as copy:
            address = f"mongodb://{settings.host}:{settings.port}/?directConnection=true"
            for having, source in (("not a mongodump archive", "dump.archive"), ("open_transactions", "oplog.bson")):
                program = kit.kit / f"{source}.py"
                program.write_text(block("python", having))
                with (kit.kit / "mongo" / source).open("rb") as stream:
                    subprocess.run([sys.executable, program, address, "chat"], stdin=stream, check=True)
            assert contents(copy) == expected


def forge(record: Path) -> None:
    """Make it look as if the slice had been cut by somebody else."""
    record.write_text(json.dumps(json.loads(record.read_text()) | {"host": "elsewhere"}))


def alter(record: Path) -> None:
    """Change a byte of what the slice sealed."""
    (file,) = record.parent.glob(f"{record.stem}.oplog*")
    content = file.read_bytes()
    file.write_bytes(content[:60] + bytes([content[60] ^ 4]) + content[61:])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (forge, "not signed by this environment"),
        (alter, "oplog.zst.age: FAILED"),
        (Path.unlink, "what was logged before it is missing"),
    ],
)
def test_a_slice_that_is_not_as_it_was_signed_is_refused(
    host: BackupHost, folder: Path, harm: Callable[[Path], None], said: str
) -> None:
    part = take(host)
    for _ in range(3):
        ship(host)
    moment = datetime.now(UTC)
    ship(host)
    kept = host.settings.repository.with_name("kept")
    record = host.settings.repository / local_keys(host.settings.repository, "mongodb")[-3]
    shutil.copytree(host.settings.repository / "log", kept)
    with working(folder, host, IDENTITY, part) as kit:
        good = kit.run(*BEGIN, CHAIN, "chain mongodb", TIME=moment.isoformat())
        assert good.returncode == 0, good.stdout + good.stderr
    try:
        harm(record)
        with working(folder, host, IDENTITY, part) as kit:
            refused = kit.run(*BEGIN, CHAIN, "chain mongodb", TIME=moment.isoformat())
        assert refused.returncode != 0
        assert said in refused.stdout + refused.stderr
    finally:
        shutil.rmtree(host.settings.repository / "log")
        kept.rename(host.settings.repository / "log")


def test_a_set_that_nobody_signed_is_refused(host: BackupHost, folder: Path) -> None:
    part = take(host)
    sums = host.sets / part.set_id / "mongodb/SHA256SUMS"
    content = sums.read_text()
    sums.write_text(f"{content}{'0' * 64}  more\n")
    with working(folder, host, IDENTITY, part) as kit:
        refused = kit.run(*BEGIN)
        assert refused.returncode != 0
        assert "SHA256SUMS: not signed by this environment" in refused.stderr
    sums.write_text(content)
