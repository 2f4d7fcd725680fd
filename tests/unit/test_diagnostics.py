"""The diagnostics archive: what is in it, what is not, and who may read it."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path

import pytest

from dbkeep.diagnostics import Collection
from dbkeep.environment import Environment, Host
from dbkeep.errors import UsageError

SECRET = "only-in-the-vault-0123456789"


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    host = Host("db1", "198.18.255.1", "ops", 22, None, (), frozenset({"redis", "chat_api"}), {})
    return Collection(Environment("test", tmp_path, (host,), {}, {"redis": {"admin": SECRET}}))


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: stream.read().decode() for name, stream in files.items() if stream}


def test_secrets_are_taken_out_and_only_the_owner_may_read(collection: Collection, tmp_path: Path) -> None:
    collection.add("db1/os.txt", f"running with --password {SECRET}\n")
    path = tmp_path / "out" / "d.tar.gz"
    collection.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    files = contents(path)
    assert files.keys() == {"d/db1/os.txt", "d/index.json"}
    assert SECRET not in "".join(files.values())
    assert "withheld" in files["d/db1/os.txt"]


def test_what_could_not_be_collected_is_in_the_index(collection: Collection, tmp_path: Path) -> None:
    collection.add("db1/facts-redis.json", "", "first line\ndbkeep: redis cache: no answer")
    collection.write(tmp_path / "d.tar.gz")
    index = json.loads(contents(tmp_path / "d.tar.gz")["d/index.json"])
    assert index["schema"] == "dbkeep.diagnostics/1"
    assert index["not_collected"] == {"db1/facts-redis.json": "dbkeep: redis cache: no answer"}


def test_a_host_is_asked_about_its_own_engines(collection: Collection) -> None:
    names = collection.commands("db1").keys()
    assert {"facts-host.json", "facts-redis.json", "facts-backup.json", "services.txt"} <= names
    assert "facts-postgresql.json" not in names


def test_an_archive_is_never_overwritten(collection: Collection, tmp_path: Path) -> None:
    path = tmp_path / "d.tar.gz"
    path.write_text("kept", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written: File exists"):
        collection.write(path)
    assert path.read_text(encoding="utf-8") == "kept"
