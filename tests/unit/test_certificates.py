"""The certificate files of a host: made, installed, put right, and left alone when they are right."""

from __future__ import annotations

import getpass
import grp
import os
import stat
from pathlib import Path

import pytest

from dbkeep.certificates import Certificate, Kept, keep
from dbkeep.errors import UsageError
from dbkeep.tls import Subject, new_authority, new_private_key, sign

AUTHORITY_KEY = new_private_key()
AUTHORITY = new_authority(AUTHORITY_KEY, "test authority")
SUBJECT = Subject("db1", ("db1", "127.0.0.1"))


def certificate(owner: str | None = None) -> Certificate:
    return Certificate("postgresql", SUBJECT, owner=owner or getpass.getuser(), group=grp.getgrgid(os.getgid()).gr_name)


def run(folder: Path, signed: dict[str, str] | None = None, *, dry: bool = False) -> Kept:
    return keep(folder, [certificate()], authority=AUTHORITY, signed=signed or {}, dry=dry)


def issue(kept: Kept) -> dict[str, str]:
    return {
        r["name"]: sign(r["request"], SUBJECT, private_key=AUTHORITY_KEY, authority=AUTHORITY) for r in kept.requests
    }


def test_first_a_request_then_the_files_then_nothing(tmp_path: Path) -> None:
    asked = run(tmp_path)
    assert asked.changed
    assert [(r["name"], r["reason"]) for r in asked.requests] == [("postgresql", "there is none")]
    installed = run(tmp_path, issue(asked))
    assert installed == Kept(changed=True, requests=())
    assert run(tmp_path) == Kept(changed=False, requests=())
    key, crt, pem = (tmp_path / f"postgresql.{end}" for end in ("key", "crt", "pem"))
    assert pem.read_text() == key.read_text() + crt.read_text()
    assert [stat.S_IMODE(f.stat().st_mode) for f in (key, crt, pem)] == [0o600, 0o644, 0o600]


def test_a_dry_run_says_so_and_writes_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, dry=True).changed
    assert list(tmp_path.iterdir()) == []


def test_a_run_interrupted_between_the_files_is_completed(tmp_path: Path) -> None:
    run(tmp_path, issue(run(tmp_path)))
    (tmp_path / "postgresql.pem").unlink()
    assert run(tmp_path) == Kept(changed=True, requests=())
    assert (tmp_path / "postgresql.pem").exists()


def test_a_readable_key_is_closed_again(tmp_path: Path) -> None:
    run(tmp_path, issue(run(tmp_path)))
    (tmp_path / "postgresql.key").chmod(0o644)
    assert run(tmp_path, dry=True).changed
    assert stat.S_IMODE((tmp_path / "postgresql.key").stat().st_mode) == 0o644
    assert run(tmp_path).changed
    assert stat.S_IMODE((tmp_path / "postgresql.key").stat().st_mode) == 0o600


def test_a_certificate_signed_for_another_key_is_not_installed(tmp_path: Path) -> None:
    asked = run(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    kept = run(tmp_path, issue(run(other)))
    assert [r["reason"] for r in kept.requests] == ["it is for another key"]
    assert not (tmp_path / "postgresql.crt").exists()
    assert asked.changed


def test_an_owner_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no user nobody-here or group"):
        keep(tmp_path, [certificate("nobody-here")], authority=AUTHORITY, signed={}, dry=False)
