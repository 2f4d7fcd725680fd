"""Debian packages this machine itself needs, to make test hosts and to run the engine tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dbkeep.errors import UsageError

LAB = ("debootstrap", "systemd-container", "nftables", "iproute2", "openssh-client", "gnupg", "dpkg-dev")
ENGINES = (
    "postgresql",
    "postgresql-contrib",
    "pgbouncer",
    "redis-server",
    "pgbackrest",
    "age",
    "zstd",
    "jq",
    "faketime",
)

_POLICY = Path("/usr/sbin/policy-rc.d")


def missing_packages(names: Iterable[str]) -> list[str]:
    """Return those of `names` that dpkg does not have installed."""
    wanted = list(names)
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *wanted],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.split()[1:2] == ["ii"]}
    return [name for name in wanted if name not in installed]


def missing_programs(*names: str) -> list[str]:
    """Return those of `names`, programs that their Debian packages are named like, that are not on PATH."""
    return [name for name in names if not shutil.which(name)]


def install_packages(names: Iterable[str]) -> list[str]:
    """Install what is missing of `names` by apt-get, starting no service, and return what was installed.

    Raises UsageError, with the command to type, when this is not root or apt-get fails.
    """
    missing = missing_packages(names)
    if not missing:
        return []
    command = f"apt-get install {' '.join(missing)}"
    if os.geteuid() != 0:
        raise UsageError(f"packages are missing; as root run: {command}")
    if not shutil.which("apt-get"):
        raise UsageError(f"this machine has no apt-get; dbkeep's lab and tests need Debian with: {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts(), _no_default_cluster():
        _apt_get(["update"], command, environment)
        _apt_get(["install", "-y", "--no-install-recommends", *missing], command, environment)
    return missing


def _apt_get(words: list[str], command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()
        reason = lines[0] if lines else "no reason given"
        raise UsageError(f"`{command}` failed: {reason}; check the network and apt's sources")


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Packages come for their programs: no daemon of theirs may start on the machine that runs dbkeep.

    Source: invoke-rc.d(8), policy-rc.d exit status 101.
    """
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


@contextmanager
def _no_default_cluster() -> Iterator[None]:
    """Keep the PostgreSQL package from making its cluster `main` here (createcluster.conf(5), conf.d style)."""
    directory = Path("/etc/postgresql-common/createcluster.d")
    made = [path for path in (directory, directory.parent) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=directory, suffix=".conf", delete=False) as file:
        file.write("create_main_cluster = false\n")
    path = Path(file.name)
    path.chmod(0o644)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
