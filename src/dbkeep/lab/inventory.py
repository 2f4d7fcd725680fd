"""The environment of a lab: like production's, but for its hosts' addresses and what it takes MongoDB from."""

from __future__ import annotations

from collections.abc import Set
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from dbkeep.environment import checkout
from dbkeep.files import write_atomically
from dbkeep.lab.base import USER
from dbkeep.lab.lab import Lab
from dbkeep.lab.machine import APT_REPOSITORY
from dbkeep.lab.paths import CACHE
from dbkeep.new_environment import HOSTS, create_environment

APT_CACHE = CACHE / "apt"
WAIVED_DAYS = 30


def write_inventory(lab: Lab) -> Path:
    """Make inventory/NAME for the lab, or bring it up to date, and return its folder.

    Secrets that exist stay, and so do groups: a lab's are changed by hand as production's are. Those of `dbkeep init`
    name no host of the lab yet and are replaced.
    """
    names = {machine.name for machine in lab.machines}
    groups = present_groups(checkout() / "inventory" / lab.name, names) or _groups(lab)
    made = create_environment(lab.name, hosts=_hosts(lab), groups=groups, variables=_variables(lab))
    write_atomically(made.path / "waivers.yml", yaml.safe_dump(_waivers(), sort_keys=False))
    return made.path


def _groups(lab: Lab) -> dict[str, list[str]]:
    """One host has everything; of three each has one engine, the API beside PostgreSQL."""
    names = [machine.name for machine in lab.machines]
    if len(names) == 1:
        return {"postgresql": names, "mongodb": names, "redis": names, "chat_api": names}
    first, second, third = names
    return {"postgresql": [first], "mongodb": [second], "redis": [third], "chat_api": [first]}


def present_groups(folder: Path, names: Set[str]) -> dict[str, list[str]]:
    """Return the groups of an inventory that dbkeep wrote, each with its hosts; {} if they have no host of `names`."""
    path = folder / HOSTS
    if not path.is_file():
        return {}
    children = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["children"]
    groups = {group: list(entry["hosts"] or ()) for group, entry in children.items()}
    return {} if names.isdisjoint(chain(*groups.values())) else groups


def _hosts(lab: Lab) -> dict[str, dict[str, Any]]:
    common = {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(lab.key_file),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={lab.known_hosts} -o IdentitiesOnly=yes",
    }
    return {machine.name: {"ansible_host": machine.address, **common} for machine in lab.machines}


def _variables(lab: Lab) -> dict[str, Any]:
    return {
        "mongodb_repository": f"file:{APT_REPOSITORY} ./",
        "mongodb_repository_key": f"file://{APT_REPOSITORY}/mongodb-server.asc",
        "chat_api_clients": [f"{lab.gateway}/32"],
    }


def _waivers() -> dict[str, Any]:
    """What a lab is worse in than production, said on every run of its checks."""
    reasons = {
        "MG-VER-01": "a lab runs MongoDB 6.0.5, the newest real server that a package index carries",
        "BK-07": "a lab is one machine: there is nothing off it to copy backups to",
        "BK-09": "a lab has no stores: its only copy is on its host",
    }
    expires = datetime.now(UTC).date() + timedelta(days=WAIVED_DAYS)
    return {
        "waivers": [
            {"control": control, "owner": "dbkeep lab", "reason": reason, "expires": expires}
            for control, reason in reasons.items()
        ]
    }
