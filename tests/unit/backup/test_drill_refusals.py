"""A damaged file and a wrong key are noticed when they are accepted: on a file that age really sealed."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from dbkeep.backup.drill import refusals
from dbkeep.backup.drill.proof import Proof
from dbkeep.backup.manifest import Part, RecoveryPoint
from dbkeep.backup.sealed_file import seal
from dbkeep.backup.settings import BackupHost, BackupSettings

from ... import signing

NAMES = [
    "another identity",
    "a flipped byte",
    "a flipped byte, were the digest right",
    "a truncated file",
    "a missing file",
]
NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture
def identity() -> str:
    return str(pyrage.x25519.Identity.generate())


@pytest.fixture
def host(tmp_path: Path, identity: str) -> BackupHost:
    recipient = str(pyrage.x25519.Identity.from_str(identity).to_public())
    repository = tmp_path / "backup"
    return BackupHost(BackupSettings(repository=repository, recipients=(recipient,), signing_keys=signing.PUBLIC))


# The middle of a small sealed file is in age's header, that of a large one in its payload.
@pytest.fixture(params=[b"keys" * 50_000, random.Random(7).randbytes(200_000)], ids=["small", "large"])  # noqa: S311
def part(host: BackupHost, request: pytest.FixtureRequest) -> Part:
    folder = host.sets / "20261128T020000Z" / "redis"
    folder.mkdir(parents=True)
    stored = seal([request.param], folder / "dump.rdb.zst.age", host.settings.recipients)
    return Part(
        set_id="20261128T020000Z", engine="redis", host="chat1", server_version="7.0.15", started_at=NOW, seconds=1,
        recovery_point=RecoveryPoint(at=NOW, name="bgsave"), stored_bytes=stored.size, files=(stored,), counts={},
        recipients=host.settings.recipients, tools={},
    )  # fmt: skip


def test_each_is_refused_and_the_set_is_untouched(host: BackupHost, part: Part, identity: str, tmp_path: Path) -> None:
    path = host.settings.repository / next(part.stored_files()).name
    before, proof = path.read_bytes(), Proof()
    refusals.refuse(host, part, identity, tmp_path, proof)
    assert [(a.what.removesuffix(" is refused"), a.holds) for a in proof.assertions] == [(name, True) for name in NAMES]
    assert path.read_bytes() == before
    assert not (tmp_path / "damaged").exists()
    assert not (tmp_path / "opened").exists()


def test_what_accepts_everything_is_found_out(
    host: BackupHost, part: Part, identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "unseal", lambda *_: None)
    proof = Proof()
    refusals.refuse(host, part, identity, tmp_path, proof)
    accepted = [a.what.removesuffix(" is refused") for a in proof.assertions if a.observed == "accepted"]
    assert accepted == [NAMES[0], NAMES[1], NAMES[3], NAMES[4]]
    assert not proof.passed
