"""What runs when and where in an environment: backups and points on the hosts, drill and checks on the controller.

On hosts with systemd the roles install all of it; elsewhere the same jobs are lines of a crontab.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dbkeep.backup.controller.sets import placed
from dbkeep.environment import Environment
from dbkeep.errors import UsageError

AGENT = "/opt/dbkeep/venv/bin/dbkeep agent"
CONTROLLER = "controller"
DEFAULTS = Path("roles/backup/defaults/main.yml")
# systemd.time(7), the part of it that a crontab can say too: once a day, or every so many minutes.
DAILY = re.compile(r"\*-\*-\* (?P<hour>\d{1,2}):(?P<minute>\d{2})(:00)?(?P<utc> UTC)?")
# A service that runs all the time: cron starts one round of it every minute, its shortest span.
ALWAYS = re.compile(r"every \d+ s")
OFTEN = re.compile(r"\*-\*-\* \*:(00?)/(?P<minutes>\d{1,2})(:00)?( UTC)?")
SPAN = re.compile(r"(?P<number>\d+) ?(?P<unit>s|sec|m|min|h|hours?)?")
SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "hours": 3600}


@dataclass(frozen=True, slots=True)
class Job:
    """`calendar` is systemd's; `command` is a line of sh, `unit` the timer that runs it, None where none is installed.

    `request` is what the agent reads on standard input. `marks_failure` names a file that checks look for.
    """

    name: str
    host: str
    calendar: str
    delay_seconds: int
    command: str
    unit: str | None = None
    request: str | None = None
    marks_failure: str | None = None

    @property
    def start_seconds(self) -> int:
        """By how much this host starts later: always as much, so that runs keep their distance."""
        digest = hashlib.sha256(f"{self.host} {self.name}".encode()).digest()
        return int.from_bytes(digest[:8]) % self.delay_seconds if self.delay_seconds else 0


def jobs(environment: Environment, root: Path) -> list[Job]:
    """Return every scheduled job of an environment. Raises UsageError for a delay that is no time span."""
    defaults: dict[str, Any] = yaml.safe_load((root / DEFAULTS).read_text(encoding="utf-8"))

    def of(host: Mapping[str, Any], name: str) -> str:
        return str(host.get(name, defaults[name]))

    found = []
    for host in placed(environment):
        own, failed = host.variables, "/var/lib/dbkeep/backup/FAILED"
        delay = span(of(own, "backup_randomized_delay"), "backup_randomized_delay")
        command = f"{AGENT} backup run"
        calendar = of(own, "backup_calendar")
        found.append(Job("backup", host.name, calendar, delay, command, "dbkeep-backup.timer", "{}", failed))
        calendar = f"*-*-* *:00/{of(own, 'backup_point_minutes')}:00 UTC"
        found.append(Job("point", host.name, calendar, 0, f"{AGENT} backup mark", "dbkeep-point.timer", "{}"))
        calendar = f"every {of(own, 'backup_ship_seconds')} s"
        found.append(Job("ship", host.name, calendar, 0, f"{AGENT} backup ship", "dbkeep-ship.service", "{}"))
    here = f"cd {shlex.quote(str(root))} && ./dbkeep"
    for name in ("drill", "check"):
        variable = f"backup_{name}_randomized_delay"
        delay = span(of(environment.variables, variable), variable)
        calendar = of(environment.variables, f"backup_{name}_calendar")
        found.append(Job(name, CONTROLLER, calendar, delay, f"{here} {name} -e {shlex.quote(environment.name)}"))
    return found


def span(text: str, variable: str) -> int:
    """Return a time span such as 15min in seconds. Raises UsageError naming the variable."""
    match = SPAN.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{variable}: {text!r} is not a time span such as 15min, 1h or 30s")
    return int(match["number"]) * SECONDS[match["unit"] or "s"]


def cron_time(job: Job) -> str:
    """Return the five fields of a crontab line. Raises UsageError for a calendar that cron cannot say."""
    if daily := DAILY.fullmatch(job.calendar):
        return f"{int(daily['minute'])} {int(daily['hour'])} * * *"
    if often := OFTEN.fullmatch(job.calendar):
        return f"*/{int(often['minutes'])} * * * *"
    if ALWAYS.fullmatch(job.calendar):
        return "* * * * *"
    raise UsageError(
        f"{job.name} on {job.host}: cron cannot say {job.calendar!r}; write it as '*-*-* 02:00:00 UTC' or"
        " '*-*-* *:00/5'"
    )


def cron_line(job: Job, locks: str = "/run/lock") -> str:
    """Return one line for the crontab of the job's user: late by its own delay, alone, and silent unless it fails.

    What it prints then is what cron mails; a failed backup also leaves its mark and a line with priority alert.
    """
    title = f"dbkeep-{job.name}"
    alone = f"flock --nonblock --conflict-exit-code 75 {locks}/{title}.lock sh -c {shlex.quote(job.command)}"
    fed = f"printf '%s' {shlex.quote(job.request)} | {alone}" if job.request else f"{alone} </dev/null"
    mark = f"touch {job.marks_failure}; " if job.marks_failure else ""
    alert = f'logger --priority daemon.alert --tag {title} "{job.name} failed with exit code $s" || true; '
    wait = f"sleep {job.start_seconds}; " if job.start_seconds else ""
    shell = f"{wait}said=$({fed} 2>&1) || {{ s=$?; {mark}{alert}printf '%s\\n' \"$said\"; exit $s; }}"
    # cron reads % as the end of the command (crontab(5)).
    return f"{cron_time(job)} {shell}".replace("%", r"\%")


def crontab(environment: str, host: str, found: list[Job], mail_to: str) -> str:
    """Return the crontab of one host. The hours are those of the jobs' calendars: UTC."""
    lines = [
        f"# dbkeep, environment {environment}: the crontab of {'the controller' if host == CONTROLLER else host}",
        "# The hours are UTC: cron takes the host's own zone, so let it be UTC or move the hours.",
        "SHELL=/bin/sh",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        f"MAILTO={mail_to}",
        *(cron_line(job) for job in found if job.host == host),
    ]
    return "\n".join(lines) + "\n"


def units(environment: str, job: Job, root: Path, user: str) -> dict[str, str]:
    """Return the systemd units of a job of the controller, by file name."""
    name = f"dbkeep-{job.name}-{environment}"
    return {
        f"{name}.service": f"""[Unit]
Description=dbkeep {job.name} of environment {environment}
OnFailure={name}-failed.service

[Service]
Type=oneshot
User={user}
WorkingDirectory={root}
ExecStart={root}/dbkeep {job.name} -e {environment}
TimeoutStartSec=12h
Nice=10
CPUWeight=20
IOWeight=20
PrivateTmp=yes
NoNewPrivileges=yes
UMask=0077
""",
        f"{name}.timer": f"""[Unit]
Description=dbkeep {job.name} of environment {environment}, by the calendar

[Timer]
OnCalendar={job.calendar}
RandomizedDelaySec={job.delay_seconds}
Persistent=true

[Install]
WantedBy=timers.target
""",
        f"{name}-failed.service": f"""[Unit]
Description=Say that the {job.name} of environment {environment} failed

[Service]
Type=oneshot
ExecStart=/usr/bin/logger --priority daemon.alert --tag {name} "failed: journalctl -u {name}.service"
PrivateNetwork=yes
NoNewPrivileges=yes
""",
    }
