"""The lab's network: one bridge and one subnet of 198.18.0.0/15 a lab, and address translation to the Debian mirror.

198.18.0.0/15 is set aside for benchmarks of network devices (RFC 2544), so no network of a user is ever there.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from pathlib import Path

from dbkeep.errors import DbkeepError, UsageError

BLOCK = ipaddress.IPv4Network("198.18.0.0/15")
Subnet = ipaddress.IPv4Network


def bridge_name(lab: str) -> str:
    return f"dbk-{lab}"


def table_name(lab: str) -> str:
    return f"dbkeep_lab_{lab}"


def _run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text or "", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DbkeepError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def interfaces() -> dict[str, list[Subnet]]:
    """Return the IPv4 networks of every interface of this machine."""
    found: dict[str, list[Subnet]] = {}
    for interface in json.loads(_run(["ip", "-j", "-4", "addr"])):
        networks = (f"{a['local']}/{a['prefixlen']}" for a in interface["addr_info"] if "local" in a)
        found[interface["ifname"]] = [ipaddress.IPv4Network(network, strict=False) for network in networks]
    return found


def free_subnet(taken: list[Subnet]) -> Subnet:
    """Return the first /24 of 198.18.0.0/15 that no interface of this machine and none of `taken` overlaps.

    Raises UsageError when there is none.
    """
    busy = [*taken, *(network for networks in interfaces().values() for network in networks)]
    for subnet in BLOCK.subnets(new_prefix=24):
        if not any(subnet.overlaps(other) for other in busy):
            return subnet
    raise UsageError("no subnet of 198.18.0.0/15 is free; remove a lab with `./dbkeep down --purge`")


def raise_network(lab: str, subnet: Subnet) -> None:
    """Make the lab's bridge and address translation, or leave them as they are when they stand already.

    Raises UsageError when another interface has the lab's subnet.
    """
    bridge, gateway = bridge_name(lab), subnet[1]
    present = interfaces()
    for name, networks in present.items():
        if name != bridge and any(subnet.overlaps(network) for network in networks):
            raise UsageError(
                f"subnet {subnet} of lab {lab} is taken by interface {name}; "
                f"remove that interface, or the lab with `./dbkeep down --purge`"
            )
    if not Path(f"/sys/class/net/{bridge}").exists():
        _run(["ip", "link", "add", bridge, "type", "bridge"])
    if subnet not in present.get(bridge, []):
        _run(["ip", "addr", "replace", f"{gateway}/{subnet.prefixlen}", "dev", bridge])
    _run(["ip", "link", "set", bridge, "up"])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n", encoding="ascii")
    table = table_name(lab)
    rules = f"""
        table ip {table}
        delete table ip {table}
        table ip {table} {{
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr {subnet} ip daddr != {subnet} masquerade
            }}
        }}
    """
    _run(["nft", "-f", "-"], rules)


def remove_network(lab: str) -> None:
    """Remove the lab's bridge and address translation; what is gone already is no error."""
    tables = _run(["nft", "list", "tables"])
    if f"table ip {table_name(lab)}\n" in tables:
        _run(["nft", "delete", "table", "ip", table_name(lab)])
    if Path(f"/sys/class/net/{bridge_name(lab)}").exists():
        _run(["ip", "link", "delete", bridge_name(lab)])
