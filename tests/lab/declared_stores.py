"""Stores declared in a lab's inventory, as an operator declares them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from dbkeep.checks.waivers import read_waivers, waivers_file
from dbkeep.environment import read_environment
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server
from dbkeep.vault import read_vault, write_vault

from .test_drift import playbook

EXCUSED = ("BK-07", "BK-09")


def bucket(server: S3Server, name: str) -> dict[str, Any]:
    """Return the entry of `backup_stores` for a server that the lab reaches."""
    return {
        "name": name,
        "type": "s3",
        "endpoint": server.endpoint,
        "bucket": "copies",
        "prefix": f"{name}/",
        "access_key_id": server.key_id,
        "ca_certificate": server.ca_file.read_text(encoding="utf-8"),
        "lock_days": 1,
        "attempts": 2,
    }


def declare(lab: str, stores: Sequence[dict[str, Any]], operators: Sequence[str] = ()) -> None:
    """Put stores and operators' keys into the inventory, the stores' keys into the vault, and run site.yml.

    What a lab without stores is excused from is asked of it from then on.
    """
    environment = read_environment(lab)
    variables = {
        "backup_stores": list(stores),
        "backup_age_recipients": [*environment.variables["backup_age_recipients"], *operators],
    }
    content = yaml.safe_dump(variables, sort_keys=False)
    (environment.path / "group_vars/all/stores.yml").write_text(content, encoding="utf-8")
    secrets = read_vault(environment.path)
    secrets["backup"]["store_keys"] = {store["name"]: s3.KEY for store in stores if store["type"] == "s3"}
    write_vault(environment.path, secrets)
    waivers = read_waivers(environment.path, [host.name for host in environment.all_hosts]).waivers
    asked = [waiver.model_dump(mode="json") for waiver in waivers if waiver.control not in EXCUSED]
    waivers_file(environment.path).write_text(yaml.safe_dump({"waivers": asked}), encoding="utf-8")
    done = playbook(lab, "--tags", "backup")
    assert done.returncode == 0, done.stdout + done.stderr
