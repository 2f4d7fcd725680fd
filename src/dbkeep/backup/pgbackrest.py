"""Runs pgBackRest as the cluster's operating system user and reads its answers."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.files import open_mode

# Backups are ordered by their labels, which have the server's time (pgBackRest, src/command/backup/backup.c).
_NOT_LATER = "is not later than latest backup label"


class NotLaterError(DbkeepError):
    """The clock was ahead when the newest backup of the stanza was taken: it takes no other before that time."""


@dataclass(frozen=True, slots=True)
class PgBackRest:
    """One stanza. The repository's key is in `configuration`, never in arguments, and its place unless it is here."""

    stanza: str
    configuration: Path
    os_user: str
    repository: Path | None = None

    def run(self, command: str, *options: str) -> str:
        """Run one pgBackRest command and return its standard output.

        Raises UsageError when pgBackRest is not installed, DbkeepError with its own error line when it fails.
        """
        fixed = [f"--config={self.configuration}", "--log-level-console=off", "--log-level-stderr=error"]
        if command != "repo-ls":
            fixed += [f"--stanza={self.stanza}"]
        if self.repository:
            fixed += [f"--repo1-path={self.repository}"]
        return self._call(command, *fixed, *options)

    def _call(self, command: str, *options: str) -> str:
        program = shutil.which("pgbackrest", path=os.defpath)
        if program is None:
            raise UsageError("pgbackrest is not installed; run playbooks/site.yml")
        self._require_closed()
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "TERM", "--", program, command, *options],
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # with another passphrase it repeats what it read, which is no text
            check=False,
            **self._identity(),
        )
        if done.returncode:
            reason = error_line(done.stderr or done.stdout)
            raise (NotLaterError if _NOT_LATER in reason else DbkeepError)(
                f"pgbackrest {command} of stanza {self.stanza} failed: {reason}"
            )
        return str(done.stdout)

    def _require_closed(self) -> None:
        """Raise UsageError when the configuration, which holds the key, is missing or open to others."""
        try:
            mode = open_mode(self.configuration)
        except OSError as error:
            raise UsageError(f"{self.configuration}: {error.strerror}; run playbooks/site.yml") from None
        if mode:
            raise UsageError(
                f"{self.configuration} has mode {mode}, so others can read or change the repository's key: "
                "begin a new repository with a new key, and run playbooks/site.yml"
            )

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        try:
            user = pwd.getpwnam(self.os_user)
        except KeyError:
            raise UsageError(f"user {self.os_user} does not exist: PostgreSQL is not installed on this host") from None
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": os.getgrouplist(self.os_user, user.pw_gid)}

    def version(self) -> str:
        """Return the version as pgBackRest says it, such as 2.45; it takes no option from 2.55 on."""
        return self._call("version").split()[-1]

    def offers(self, command: str, option: str) -> bool:
        """Say whether a command has an option that is ready for use: 2.45 has some already that its help warns of."""
        try:
            text = self._call("help", command, option)
        except DbkeepError:
            return False
        return "DO NOT USE IN PRODUCTION" not in text

    def info(self) -> dict[str, Any]:
        """Return what the repository holds of this stanza: `backup` and `archive` lists, `status`.

        Raises DbkeepError when the stanza is missing or broken.
        """
        try:
            stanza = dict(json.loads(self.run("info", "--output=json"))[0])
        except ValueError:
            # With another passphrase pgBackRest puts what it read into its answer as it is.
            raise DbkeepError(
                f"pgbackrest info of stanza {self.stanza}: its answer cannot be read; was the repository enciphered "
                "with another passphrase (repo1-cipher-pass)?"
            ) from None
        status = stanza["status"]
        # Code 2 is "no valid backups": right for a stanza that is new (pgBackRest, src/command/info/info.c).
        if status["code"] not in (0, 2):
            raise DbkeepError(f"pgbackrest stanza {self.stanza}: {status['message']}; run playbooks/site.yml")
        return stanza

    def backups(self) -> list[dict[str, Any]]:
        """Return the backups in the repository, oldest first."""
        return list(self.info()["backup"])

    def has_segment(self, segment: str) -> bool:
        """Say whether a WAL segment is in the repository: `verify` does not miss one at the end of the archive."""
        for archive in self.info()["archive"]:
            folder = f"archive/{self.stanza}/{archive['id']}/{segment[:16]}"
            if self.run("repo-ls", f"--filter=^{segment}-", folder).strip():
                return True
        return False

    def verify(self, label: str) -> list[str]:
        """Return what pgBackRest finds wrong in backup `label`, or in all of the repository where it cannot tell apart.

        It exits 0 on a damaged one, so its text is read.
        """
        only = [f"--set={label}"] if self.offers("verify", "set") else []
        try:
            text = self.run("verify", "--output=text", "--verbose", *only)
        except DbkeepError as error:
            return [str(error)]
        return findings(text)


def findings(text: str) -> list[str]:
    """Return the problems in the text of `verify --output=text --verbose`; no status in it is itself a problem."""
    wrong, subject = [], ""
    for line in text.splitlines():
        head = re.match(r"\s+(archiveId|backup): ([^,]+)", line)
        subject = f"{head.group(1)} {head.group(2)}" if head else subject
        counts = re.findall(r"(missing|checksum invalid|size invalid|other): ([1-9]\d*)", line)
        wrong += [f"{subject}: {number} files {kind}" for kind, number in counts]
    status = re.search(r"^status:\s*(.*)$", text, re.MULTILINE)
    if status is None:
        return ["pgbackrest verify gave no status"]
    if status.group(1).strip() != "ok":
        return wrong or [f"pgbackrest verify says {status.group(1).strip()}"]
    return wrong


def error_line(text: str) -> str:
    """Return pgBackRest's own first error of its standard error, without time and process."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        found = re.search(r"ERROR: \[\d+\]: .*", line)
        if found:
            return found.group()
    return lines[-1] if lines else "no reason given"
