"""One environment: the hosts, settings and secrets of a folder under inventory/, as Ansible itself sees them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbkeep.errors import UsageError

GROUPS = ("postgresql", "mongodb", "redis", "chat_api")
# Hosts of these groups have engines of their own, which no application uses: a restore's target, and where drills run.
STANDBY, DRILL = "standby", "drill"
ASIDE = frozenset({STANDBY, DRILL})


@dataclass(frozen=True, slots=True)
class Host:
    """One host of an inventory and how SSH reaches it."""

    name: str
    address: str
    user: str
    port: int
    key_file: Path | None
    ssh_options: tuple[str, ...]
    groups: frozenset[str]
    variables: dict[str, Any] = field(repr=False, hash=False, compare=False)

    @property
    def is_aside(self) -> bool:
        """Whether its engines are none of the environment's: what is there is a copy, or nothing."""
        return not self.groups.isdisjoint(ASIDE)


@dataclass(frozen=True, slots=True)
class Environment:
    """`order` has the names of each group's hosts in Ansible's order."""

    name: str
    path: Path
    all_hosts: tuple[Host, ...]
    variables: dict[str, Any] = field(repr=False)
    secrets: dict[str, Any] = field(repr=False)
    order: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def hosts(self, group: str) -> list[Host]:
        """Return the hosts of `group` in the group's order: the first one here is the first one of a playbook.

        Hosts that stand aside are in the groups ASIDE only, as seen from here: nothing looks for live data on them.
        """
        names = self.order.get(group, [])
        found = [host for host in self.all_hosts if group in host.groups and (group in ASIDE or not host.is_aside)]
        return sorted(found, key=lambda host: names.index(host.name)) if names else found


def checkout() -> Path:
    """Return the folder of the dbkeep checkout this package runs from.

    Raises UsageError where there is none: commands that need playbooks and declared state run from a checkout.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "ansible.cfg").is_file():
        raise UsageError(f"{root} is not a dbkeep checkout; run this from a clone of the repository, as ./dbkeep")
    return root


def ansible_environment(path: Path, root: Path) -> dict[str, str]:
    """Return the process environment for ansible programs that read the inventory folder `path`."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(root / "ansible.cfg")}
    # The programs of the virtual environment come first, so that ansible finds itself whatever PATH says.
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
    password = path / ".vault-password"
    if password.is_file():
        environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(password)
    return environment


def read_environment(name: str, root: Path | None = None) -> Environment:
    """Return the environment in inventory/`name`, secrets decrypted.

    Raises UsageError when the folder is missing or Ansible cannot read it.
    """
    root = root or checkout()
    path = root / "inventory" / name
    if not path.is_dir():
        raise UsageError(f"inventory/{name} does not exist; make it with `./dbkeep init {name}` (lab: `./dbkeep up`)")
    program = Path(sys.executable).parent / "ansible-inventory"
    done = subprocess.run(
        [str(program), "-i", str(path), "--list"],
        cwd=root,
        env=ansible_environment(path, root),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"inventory/{name} cannot be read: {reason}")
    return _environment(name, path, json.loads(done.stdout))


def _environment(name: str, path: Path, listing: dict[str, Any]) -> Environment:
    hostvars: dict[str, dict[str, Any]] = listing.get("_meta", {}).get("hostvars", {})
    members = {group: _members(listing, group) for group in listing if group != "_meta"}
    hosts = tuple(
        _host(host, variables, frozenset(group for group, names in members.items() if host in names))
        for host, variables in hostvars.items()
    )
    if not hosts:
        raise UsageError(f"inventory/{name} names no host; add one to {path}/hosts.yml")
    variables = {key: value for key, value in hosts[0].variables.items() if key != "dbkeep_secrets"}
    return Environment(name, path, hosts, variables, hosts[0].variables.get("dbkeep_secrets", {}), members)


def _members(listing: dict[str, Any], group: str) -> list[str]:
    entry = listing.get(group, {})
    names = list(entry.get("hosts", []))
    for child in entry.get("children", []):
        names += _members(listing, child)
    return names


def _host(name: str, variables: dict[str, Any], groups: frozenset[str]) -> Host:
    key = variables.get("ansible_ssh_private_key_file")
    return Host(
        name=name,
        address=variables.get("ansible_host", name),
        user=variables.get("ansible_user", "root"),
        port=int(variables.get("ansible_port", 22)),
        key_file=Path(key) if key else None,
        ssh_options=tuple(shlex.split(variables.get("ansible_ssh_common_args", ""))),
        groups=groups,
        variables=variables,
    )
