"""Can only those reach this host that must?"""

import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment, Host

DATABASE_PORTS = {
    "postgresql": ("postgresql_port",),
    "mongodb": ("mongodb_port",),
    "redis": ("redis_state_port", "redis_cache_port"),
}
SERVICE_PORTS = {**DATABASE_PORTS, "chat_api": ("chat_api_port",)}


def ports_of(environment: Environment, target: Host, ports: dict[str, tuple[str, ...]]) -> dict[int, str]:
    """Return the declared ports of a host's groups, with the variable that names each."""
    return {
        int(environment.variables[variable]): variable
        for group, variables in ports.items()
        if group in target.groups
        for variable in variables
    }


def is_loopback(address: str) -> bool:
    address = address.partition("%")[0].strip("[]")
    return address not in ("*", "") and ipaddress.ip_address(address).is_loopback


@control(
    "OS-01",
    "Nothing listens to the network but SSH and the declared services",
    severity="critical",
    sources=("STIG SV-261889", "CIS Debian Linux 12 2.1"),
    fix="stop and disable what listens, or bind it to 127.0.0.1",
)
def test_sockets_are_declared(
    environment: Environment, target: Host, host_facts: dict[str, Any], observe: Observe
) -> None:
    allowed = {target.port, *ports_of(environment, target, SERVICE_PORTS)}
    outside = [s for s in host_facts["sockets"] if not is_loopback(s["address"])]
    surplus = [s for s in outside if s["protocol"] != "tcp" or int(s["port"]) not in allowed]
    observe(listening=outside, allowed=sorted(allowed))
    assert outside, "nothing listens to the network at all, not even SSH: the observation is wrong"
    names = [f"{s['protocol']} {s['address']}:{s['port']} ({s['process'] or 'unknown'})" for s in surplus]
    assert not surplus, f"not declared: {', '.join(names)}"


@control(
    "OS-02",
    "The firewall drops whatever no rule lets in",
    severity="critical",
    sources=("CIS Debian Linux 12 4.3", "nft(8)"),
    fix="run playbooks/site.yml (role firewall); look at `nft list ruleset` for what replaced it",
)
def test_firewall_drops_by_default(host_facts: dict[str, Any], observe: Observe) -> None:
    chains = [chain for chain in host_facts["firewall"] if chain["hook"] == "input"]
    observe(input_chains=chains)
    dropping = [chain for chain in chains if chain["policy"] == "drop" and chain["family"] in ("inet", "ip")]
    assert dropping, "no nftables input chain has policy drop"
    assert all(chain["rules"] for chain in dropping), "the input chain that drops has no rule: nothing was loaded"


@control(
    "OS-02-PROBE",
    "The database ports do not answer the controller",
    severity="critical",
    sources=("dbkeep design: network rules per role of host", "STIG SV-261889"),
    fix="run playbooks/site.yml (role firewall); only the chat_api hosts may reach the databases",
)
def test_database_ports_are_closed(environment: Environment, target: Host, observe: Observe) -> None:
    ports = ports_of(environment, target, DATABASE_PORTS)
    if not ports:
        not_applicable("no database is on this host")
    with ThreadPoolExecutor(max_workers=len(ports)) as pool:
        answers = dict(zip(ports, pool.map(lambda port: answer_of(target.address, port), ports), strict=True))
    observe(ssh=answer_of(target.address, target.port), **{str(port): answer for port, answer in answers.items()})
    opened = [f"{port} ({ports[port]})" for port, answer in answers.items() if answer == "open"]
    assert not opened, f"the controller reaches {', '.join(opened)} at {target.address}"


def answer_of(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), timeout=1):
            return "open"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return error.strerror or type(error).__name__


@control(
    "OS-10",
    "The kernel ignores redirects and source routes, and checks where packets come from",
    severity="medium",
    sources=("CIS Debian Linux 12 3.3",),
    fix="run playbooks/site.yml (role host): it sets the net.* values in /etc/sysctl.d",
)
def test_kernel_network_settings(host_facts: dict[str, Any], observe: Observe) -> None:
    wanted = {
        "net.ipv4.tcp_syncookies": ("1",),
        "net.ipv4.conf.all.accept_redirects": ("0",),
        "net.ipv4.conf.all.accept_source_route": ("0",),
        "net.ipv4.conf.all.rp_filter": ("1", "2"),
    }
    found = {name: host_facts["kernel"][name] for name in wanted}
    observe(**{name.replace(".", "_"): value for name, value in found.items()})
    wrong = [
        f"{name} is {found[name]}, not {' or '.join(values)}"
        for name, values in wanted.items()
        if found[name] not in values
    ]
    assert not wrong, "; ".join(wrong)
