"""The operating system: sockets, firewall, SSH, services, accounts, files, certificates, kernel and disks."""

from __future__ import annotations

import os
import platform
import pwd
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography import x509

from dbkeep.checks.facts.files import describe_files
from dbkeep.checks.facts.programs import json_of, output_of, properties_of, units_of

SERVICES = (
    *("postgresql@*.service", "mongod.service", "redis-server@*.service", "valkey-server@*.service"),
    "chat-api.service",
)
SERVICE_PROPERTIES = (
    "ActiveState",
    "UnitFileState",
    "MainPID",
    "User",
    "Restart",
    "LimitCORE",
    "NoNewPrivileges",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "RestrictAddressFamilies",
    "CapabilityBoundingSet",
)
ACCOUNTS = ("postgres", "mongodb", "redis", "valkey", "chat_api")
KERNEL = (
    "net.ipv4.tcp_syncookies",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.all.accept_source_route",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.ip_forward",
    "kernel.core_pattern",
    "vm.overcommit_memory",
)
PRIVATE_FILES = (
    "/etc/dbkeep/tls/*.key",
    "/etc/dbkeep/tls/*.pem",
    "/etc/dbkeep/secrets/*",
    "/etc/dbkeep/agent.d/*",
    "/etc/dbkeep/declared/*",
    "/etc/mongodb/keyfile",
    "/etc/redis/*.acl",
    "/etc/redis/*.conf",
    "/etc/valkey/*.acl",
    "/etc/valkey/*.conf",
    "/etc/pgbackrest.conf",
    "/etc/pgbackrest/*.conf",
    "/etc/chat_api/credentials/*",
    "/etc/ssh/ssh_host_*_key",
)
DATA_FOLDERS = (
    *("/", "/var/lib/postgresql", "/var/lib/mongodb", "/var/lib/redis", "/var/lib/valkey", "/var/lib/dbkeep"),
    "/var/log",
)


def gather(request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - every observer has this shape
    release, container = platform.freedesktop_os_release(), _container()
    return {
        "versions": {"os": release["PRETTY_NAME"], "kernel": platform.release(), "dbkeep": version("dbkeep")},
        "container": container,
        "sockets": _sockets(),
        "firewall": _firewall(),
        "sshd": _sshd(),
        "services": properties_of(units_of("--all", *SERVICES), SERVICE_PROPERTIES),
        "core_limits": _core_limits(),
        "failed_units": units_of("--failed"),
        "accounts": _accounts(),
        "files": describe_files(PRIVATE_FILES),
        "certificates": _certificates(),
        "kernel": {name: _kernel(name) for name in KERNEL},
        "disks": {folder: _free(folder) for folder in DATA_FOLDERS if Path(folder).is_dir()},
        # A container has its machine's clock, and no say in it.
        "clock": {} if container else _clock(),
    }


def _container() -> str:
    """Return the kind of container that this host is, empty if it is none (systemd: Container Interface)."""
    kind = Path("/run/systemd/container")
    return kind.read_text(encoding="ascii").strip() if kind.exists() else ""


def _sockets() -> list[dict[str, str]]:
    """Return what listens beyond the host itself: protocol, address, port and process."""
    found = []
    for line in output_of("ss", "-H", "-l", "-n", "-t", "-u", "-p").splitlines():
        fields = line.split()
        address, _, port = fields[4].rpartition(":")
        users = fields[6] if len(fields) > 6 else ""
        process = users.partition('(("')[2].partition('"')[0]
        found.append({"protocol": fields[0], "address": address, "port": port, "process": process})
    return found


def _firewall() -> list[dict[str, Any]]:
    """Return the base chains of nftables: family, table, hook and policy, and how many rules each has."""
    entries = json_of("nft", "--json", "list", "ruleset")["nftables"]
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    return [
        {
            "family": chain["family"],
            "table": chain["table"],
            "hook": chain["hook"],
            "policy": chain.get("policy", "accept"),
            "rules": sum(rule["table"] == chain["table"] and rule["chain"] == chain["name"] for rule in rules),
        }
        for chain in (entry["chain"] for entry in entries if "chain" in entry)
        if "hook" in chain
    ]


def _sshd() -> dict[str, str]:
    """Return the settings that sshd would use, by lower-case name (sshd(8) -T)."""
    return dict(line.partition(" ")[::2] for line in output_of("/usr/sbin/sshd", "-T").splitlines())


def _core_limits() -> dict[str, str]:
    """Return the core file limit that the kernel holds for the main process of each service."""
    limits = {}
    for unit, properties in properties_of(units_of("--all", *SERVICES), ("MainPID",)).items():
        try:
            text = Path(f"/proc/{properties['MainPID']}/limits").read_text(encoding="ascii")
        except OSError:
            continue  # it does not run, which another control reports
        line = next(line for line in text.splitlines() if line.startswith("Max core file size"))
        limits[unit] = line.removeprefix("Max core file size").split()[1]
    return limits


def _accounts() -> dict[str, dict[str, str]]:
    shadow = dict(line.split(":")[:2] for line in Path("/etc/shadow").read_text(encoding="utf-8").splitlines())
    return {
        entry.pw_name: {
            "shell": entry.pw_shell,
            "password": "locked" if shadow[entry.pw_name].startswith(("!", "*")) else "set",
            "authorized_keys": "present" if (Path(entry.pw_dir) / ".ssh/authorized_keys").exists() else "none",
        }
        for entry in pwd.getpwall()
        if entry.pw_name in ACCOUNTS
    }


def _certificates() -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(Path("/etc/dbkeep/tls").glob("*.crt")):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        found[path.name] = {"subject": certificate.subject.rfc4514_string(), "days_left": left.days}
    return found


def _kernel(name: str) -> str | None:
    path = Path("/proc/sys") / name.replace(".", "/")
    return path.read_text(encoding="ascii").strip() if path.exists() else None


def _free(folder: str) -> dict[str, float]:
    status = os.statvfs(folder)
    return {
        "space_percent": round(100 * status.f_bavail / max(status.f_blocks, 1), 1),
        "inodes_percent": round(100 * status.f_favail / status.f_files, 1) if status.f_files else 100.0,
    }


def _clock() -> dict[str, str]:
    text = output_of("timedatectl", "show", "--property", "NTP,NTPSynchronized,Timezone")
    return dict(line.partition("=")[::2] for line in text.splitlines())
