"""The hosts of an environment for pyinfra, which has no reader of Ansible inventories (removed in its version 3).

Hosts and groups come from `ansible-inventory --list`, as everywhere in dbkeep; secrets do not come along.
"""

from __future__ import annotations

import re
from typing import Any

from dbkeep.environment import GROUPS, Environment, Host

PyinfraHost = tuple[str, dict[str, Any]]
_KNOWN_HOSTS = re.compile(r"UserKnownHostsFile=(.+)", re.IGNORECASE)


def pyinfra_groups(environment: Environment) -> dict[str, list[PyinfraHost]]:
    """Return pyinfra's groups: `all`, and each of ours that has a host; every host with how SSH reaches it."""
    groups = {group: [_pyinfra_host(host) for host in environment.hosts(group)] for group in GROUPS}
    return {"all": [_pyinfra_host(host) for host in environment.all_hosts], **{g: h for g, h in groups.items() if h}}


def _pyinfra_host(host: Host) -> PyinfraHost:
    data: dict[str, Any] = {"ssh_hostname": host.address, "ssh_port": host.port, "ssh_user": host.user}
    if host.key_file:
        data |= {"ssh_key": str(host.key_file), "ssh_allow_agent": False, "ssh_look_for_keys": False}
    for option in host.ssh_options:
        found = _KNOWN_HOSTS.search(option)
        if found:
            data |= {"ssh_known_hosts_file": found[1], "ssh_strict_host_key_checking": "yes"}
    return host.name, data
