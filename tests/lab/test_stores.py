"""A real host copies its sets to a bucket with object lock on another address, and restores from it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbkeep.environment import ansible_environment, checkout
from dbkeep.new_environment import MAIN, set_variable
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server
from dbkeep.secrets import new_password
from dbkeep.vault import read_vault, write_vault

from .conftest import UpLab, dbkeep

pytestmark = pytest.mark.long


@dataclass
class Bucket:
    """The bucket's server, which can be taken away and brought back."""

    folder: Path
    address: str
    port: int
    stack: ExitStack

    def start(self) -> S3Server:
        return self.stack.enter_context(s3.locking(self.folder, address=self.address, port=self.port))

    def stop(self) -> None:
        self.stack.close()


@pytest.fixture(scope="module")
def offsite(lab: UpLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """The bucket is declared, its key is in the vault, and the role has run; all of it is taken back at the end."""
    path = lab.environment.path
    main, secrets = (path / MAIN).read_text(encoding="utf-8"), read_vault(path)
    gateway = lab.environment.variables["chat_api_clients"][0].removesuffix("/32")
    bucket = Bucket(tmp_path_factory.mktemp("offsite"), gateway, s3.free_port(), ExitStack())
    try:
        server = bucket.start()
        store = {
            "name": "offsite",
            "type": "s3",
            "endpoint": server.endpoint,
            "bucket": "backups",
            "prefix": "lab/",
            "access_key_id": server.key_id,
            "ca_certificate": server.ca_file.read_text(encoding="utf-8"),
            "lock_days": 1,
            "attempts": 2,
        }
        (path / MAIN).write_text(set_variable(main, "backup_stores", [store]), encoding="utf-8")
        write_vault(path, {**secrets, "backup": {**secrets["backup"], "store_keys": {"offsite": new_password()}}})
        provision(lab)
        yield bucket
    finally:
        bucket.stop()
        (path / MAIN).write_text(main, encoding="utf-8")
        write_vault(path, secrets)
        provision(lab)


def provision(lab: UpLab) -> None:
    path = lab.environment.path
    done = subprocess.run(
        [".venv/bin/ansible-playbook", "-i", str(path), "playbooks/site.yml", "--tags", "backup"],
        cwd=checkout(),
        env=ansible_environment(path, checkout()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def states(lab: UpLab, report: Path, *controls: str) -> dict[str, str]:
    dbkeep("check", "-e", lab.name, *controls, "--json", str(report))
    return {row["control"]: row["state"] for row in yaml.safe_load(report.read_text(encoding="utf-8"))["results"]}


def newest(lab: UpLab) -> dict[str, Any]:
    return dict(dbkeep("backup", "list", "-e", lab.name, "--json").json["sets"][-1])


def test_the_timer_copies_to_the_bucket_and_its_locks_are_proved(lab: UpLab, offsite: Bucket, tmp_path: Path) -> None:
    assert offsite.port
    prepared = dbkeep("backup", "stores", "-e", lab.name, "--prepare", "--json")
    assert prepared.status == 0, prepared.out + prepared.err
    (row,) = prepared.json["stores"]
    assert row["prepared"] == ["made the bucket, with versions, object lock and a lifecycle"]
    assert row["locked"]
    assert dbkeep("backup", "run", "-e", lab.name).status == 0
    lab.run("sudo systemctl start dbkeep-backup.service")
    assert lab.run("systemctl show -P Result dbkeep-backup.service").strip() == "success"
    assert newest(lab)["copies"] == ["offsite"]
    verified = dbkeep("backup", "verify", "-e", lab.name, "--json")
    assert verified.json["copies"] == {"local": True, "offsite": True}, verified.out
    assert lab.run("sudo stat -c '%a %U' /etc/dbkeep/backup/offsite.key").strip() == "600 root"
    assert states(lab, tmp_path / "report.json", "BK-02", "BK-05", "BK-07", "BK-08") == dict.fromkeys(
        ("BK-02", "BK-05", "BK-07", "BK-08"), "pass"
    )
    policy = dbkeep("backup", "policy", "offsite", "-e", lab.name)
    assert "s3:Delete" not in policy.out
    assert policy.json["lifecycle"]["Rules"]


def test_a_bucket_that_is_away_is_loud_and_caught_up_when_it_is_back(
    lab: UpLab, offsite: Bucket, tmp_path: Path
) -> None:
    offsite.stop()
    failed = dbkeep("backup", "run", "-e", lab.name)
    assert failed.status == 1
    assert "store offsite" in failed.err
    assert "the other copies are untouched" in failed.err
    listed = dbkeep("backup", "list", "-e", lab.name, "--json")
    assert listed.status == 1
    assert listed.json["sets"][-1]["complete"]
    assert listed.json["sets"][-1]["copies"] == []
    assert states(lab, tmp_path / "report.json", "BK-08")["BK-08"] == "fail"
    offsite.start()
    assert dbkeep("backup", "stores", "-e", lab.name, "--prepare").status == 0
    assert dbkeep("backup", "copy", "-e", lab.name).status == 0
    assert newest(lab)["copies"] == ["offsite"]


def test_a_drill_and_a_restore_need_nothing_but_the_bucket(lab: UpLab, offsite: Bucket) -> None:
    assert offsite.port
    taken = dbkeep("backup", "run", "-e", lab.name, "--json").json
    before = lab.counts()
    lab.run("sudo mv /var/lib/dbkeep/backup/sets /var/lib/dbkeep/backup/sets-away")
    lab.run("sudo -u postgres psql -qd chat -c 'DELETE FROM chat.users'")
    drilled = dbkeep("drill", "-e", lab.name, "--store", "offsite", "--json")
    assert drilled.status == 0, drilled.out + drilled.err
    assert (drilled.json["set_id"], drilled.json["store"]) == (taken["set_id"], "offsite")
    restored = dbkeep("restore", "-e", lab.name, "--store", "offsite", "--yes")
    assert restored.status == 0, restored.out + restored.err
    after = lab.counts()
    assert (after["postgresql"], after["mongodb"]) == (before["postgresql"], before["mongodb"])
    assert "fetched" not in lab.run("sudo ls /var/lib/dbkeep/backup")
    lab.run("cd /var/lib/dbkeep/backup && sudo rm -rf sets && sudo mv sets-away sets")
    assert dbkeep("backup", "run", "-e", lab.name).status == 0
