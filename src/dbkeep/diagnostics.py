"""What a diagnostics archive holds: outputs of the hosts, plans and the last check; every secret is taken out."""

from __future__ import annotations

import io
import json
import os
import shlex
import tarfile
import time
from functools import cache
from pathlib import Path

from dbkeep import evidence
from dbkeep.commands.plan import engine_hosts, engine_request
from dbkeep.environment import Environment, checkout, read_environment
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redaction import redact, secret_values
from dbkeep.remote import AGENT, call

UNITS = (
    "postgresql@*",
    "mongod.service",
    "redis-server@*",
    "valkey-server@*",
    "chat-api.service",
    "nftables.service",
    "dbkeep-*",
)

COMMANDS = {
    "os.txt": "cat /etc/os-release && uname -a && uptime",
    "packages.txt": "dpkg-query --show",
    "services.txt": f"systemctl list-units --all --no-pager --full --plain {shlex.join(UNITS)}",
    "failed.txt": "systemctl list-units --failed --no-pager --full --plain",
    "timers.txt": "systemctl list-timers --all --no-pager",
    "sockets.txt": "ss -H -l -n -t -u -p",
    "disks.txt": "df -h -x tmpfs -x devtmpfs && free -m",
    "agent.json": f"{AGENT} agent describe",
}
OBSERVERS = {"postgresql": "postgresql", "mongodb": "mongodb", "redis": "redis"}


class Collection:
    """Files gathered from one environment, and what could not be gathered."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._files: dict[str, str] = {}
        self.problems: dict[str, str] = {}

    @staticmethod
    @cache
    def of(name: str) -> Collection:
        """Return the one collection of an environment in this process: pyinfra runs a deploy's file once a host."""
        return Collection(read_environment(name))

    def default_path(self) -> str:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return str(checkout() / "evidence" / self._environment.name / f"diagnostics-{stamp}.tar.gz")

    def commands(self, host_name: str) -> dict[str, str]:
        """Return the shell command that makes each file of a host, by the file's name."""
        groups = next(host.groups for host in self._environment.all_hosts if host.name == host_name)
        observers = ["host", *(name for group, name in OBSERVERS.items() if group in groups)]
        observers += ["backup"] if groups.intersection(OBSERVERS) else []
        return COMMANDS | {f"facts-{name}.json": f"echo '{{}}' | {AGENT} agent facts {name}" for name in observers}

    def add(self, name: str, text: str, problem: str | None = None) -> None:
        """Add a file; with `problem`, record that it is missing or incomplete and why."""
        self._files[name] = text if text.endswith("\n") else f"{text}\n"
        if problem is not None:
            self.problems[name] = (problem.strip().splitlines() or ["no reason given"])[-1]

    def add_plans(self) -> None:
        """Add the plan of every engine of the environment."""
        for name, host in engine_hosts(self._environment, ()):
            try:
                plan = call(host, ["plan", name], engine_request(self._environment, name))
                self.add(f"plans/{name}.json", json.dumps(plan, indent=2))
            except DbkeepError as error:
                self.add(f"plans/{name}.json", "{}", str(error))

    def add_last_check(self) -> None:
        """Add the newest check report of the environment."""
        reports = sorted((checkout() / "evidence" / self._environment.name).glob("check-*.json"))
        if reports:
            self.add("check.json", reports[-1].read_text(encoding="utf-8"))
        else:
            self.add("check.json", "{}", f"no check was run yet: dbkeep check -e {self._environment.name}")

    def write(self, path: Path) -> None:
        """Write the archive, readable by its owner only. Raises UsageError when the place cannot be written."""
        index = {
            "schema": "dbkeep.diagnostics/1",
            "environment": self._environment.name,
            "by": evidence.person(),
            "at": evidence.now().isoformat(),
            "files": sorted(self._files),
            "not_collected": self.problems,
        }
        files = self._files | {"index.json": json.dumps(index, indent=2) + "\n"}
        values = secret_values(self._environment.secrets)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise UsageError(f"{path}: the archive cannot be written: {error.strerror}") from None
        folder = path.name.removesuffix(".tar.gz")
        with os.fdopen(handle, "wb") as stream, tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for name, text in sorted(files.items()):
                content = redact(text, values).encode()
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(content))
