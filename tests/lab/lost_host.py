"""The day a host is lost: what is kept elsewhere before it, and the fresh host that is built from that after it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyrage
import zstandard

from dbkeep.bundle import build_bundle
from dbkeep.environment import checkout
from dbkeep.lab.inventory import APT_CACHE, write_inventory
from dbkeep.lab.lab import Lab, define_lab, prepare
from dbkeep.lab.mongodb_package import build as build_mongodb_package
from dbkeep.sandbox.s3 import S3Server
from dbkeep.up import PYTHON, provision

from .conftest import dbkeep
from .declared_stores import bucket, declare

STORE = "offsite"
RELEASE = "bookworm"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left after the host is lost, besides the store: the escrow and an identity that opens it."""

    identity: Path
    escrow: Path


@contextmanager
def provisioned(name: str) -> Iterator[Lab]:
    """Bring up a host without data and remove it at the end."""
    lab = define_lab(name, hosts=1, release=RELEASE)
    try:
        prepare(lab)
        build_mongodb_package(APT_CACHE)
        build_bundle(PYTHON[RELEASE])
        succeed("lab", "up", name)
        write_inventory(lab)
        provision(lab)
        yield lab
    finally:
        dbkeep("down", "--purge", "--name", name)


def protect(name: str, server: S3Server, folder: Path) -> Kept:
    """Give the host a store off it, take a set, and seal the escrow to an operator."""
    operator = pyrage.x25519.Identity.generate()
    kept = Kept(folder / "operator.key", folder / "escrow.age")
    kept.identity.write_text(f"{operator}\n", encoding="utf-8")
    kept.identity.chmod(0o600)
    declare(name, [bucket(server, STORE)], operators=[str(operator.to_public())])
    succeed("backup", "stores", "-e", name, "--prepare", "--json")
    succeed("backup", "run", "-e", name, "--json")
    succeed("backup", "escrow", str(kept.escrow), "-e", name)
    return kept


def destroy(name: str) -> None:
    """Remove the host with all that this machine knows of it."""
    succeed("down", "--purge", "--name", name)
    assert not (checkout() / "inventory" / name).exists()


def build_anew(name: str, kept: Kept) -> None:
    """Provision a fresh host by the inventory in the escrow."""
    _open_escrow(kept)
    succeed("lab", "up", name)
    provision(define_lab(name, hosts=1, release=RELEASE))


def succeed(*command: str) -> str:
    """Run ./dbkeep and return what it wrote; fails the test when it fails."""
    done = dbkeep(*command)
    assert done.status == 0, f"dbkeep {' '.join(command)}: {done.out}{done.err}"
    return done.out


def _open_escrow(kept: Kept) -> None:
    """Bring the inventory back as the recovery kit says."""
    identity = pyrage.x25519.Identity.from_str(kept.identity.read_text(encoding="utf-8").strip())
    packed = pyrage.decrypt(kept.escrow.read_bytes(), [identity])
    content = zstandard.ZstdDecompressor().stream_reader(packed).read()
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.startswith("escrow/inventory/"):
                target = checkout() / member.name.removeprefix("escrow/")
                target.parent.mkdir(parents=True, exist_ok=True)
                stream = archive.extractfile(member)
                assert stream is not None
                target.write_bytes(stream.read())
                target.chmod(0o600)
