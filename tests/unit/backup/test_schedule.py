"""The schedule: which job runs where, and how a calendar of systemd becomes a line of a crontab."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup.controller.schedule import CONTROLLER, Job, cron_line, cron_time, crontab, jobs, span, units
from dbkeep.environment import Environment, Host, checkout
from dbkeep.errors import UsageError


def host(name: str, *groups: str, **variables: Any) -> Host:
    return Host(name, name, "root", 22, None, (), frozenset(groups), variables)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    hosts = (
        host("accounts1", "postgresql"),
        host("messages1", "mongodb", "redis", backup_calendar="*-*-* 03:15:00 UTC", backup_randomized_delay="30s"),
    )
    order = {"postgresql": ["accounts1"], "mongodb": ["messages1"], "redis": ["messages1"]}
    return Environment("production", tmp_path, hosts, {"backup_drill_calendar": "*-*-* 05:00:00 UTC"}, {}, order)


def job(calendar: str = "*-*-* 02:00:00 UTC", delay: int = 0, **rest: Any) -> Job:
    return Job("backup", "chat1", calendar, delay, "true", **rest)


def test_every_host_backs_up_and_the_controller_drills_and_checks(environment: Environment) -> None:
    found = {(one.name, one.host): one for one in jobs(environment, checkout())}
    assert {("backup", "accounts1"), ("backup", "messages1"), ("drill", CONTROLLER), ("check", CONTROLLER)} <= set(
        found
    )
    assert found["backup", "accounts1"].calendar == "*-*-* 02:00:00 UTC"
    assert found["backup", "messages1"].calendar == "*-*-* 03:15:00 UTC"
    assert found["drill", CONTROLLER].calendar == "*-*-* 05:00:00 UTC"
    assert found["drill", CONTROLLER].command.endswith("./dbkeep drill -e production")


@pytest.mark.parametrize(
    ("calendar", "fields"),
    [
        ("*-*-* 02:00:00 UTC", "0 2 * * *"),
        ("*-*-* 23:05", "5 23 * * *"),
        ("*-*-* *:00/5:00 UTC", "*/5 * * * *"),
        ("*-*-* *:0/10", "*/10 * * * *"),
        ("every 20 s", "* * * * *"),
    ],
)
def test_a_calendar_becomes_five_fields(calendar: str, fields: str) -> None:
    assert cron_time(job(calendar)) == fields


def test_what_cron_cannot_say_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"backup on chat1: cron cannot say 'Mon \*-\*-\* 02:00'; write it as"):
        cron_time(job("Mon *-*-* 02:00"))
    with pytest.raises(UsageError, match="backup_randomized_delay: 'soon' is not a time span"):
        span("soon", "backup_randomized_delay")


def test_hosts_start_apart_and_each_always_at_the_same_moment() -> None:
    starts = [Job("backup", f"chat{number}", "", 900, "true").start_seconds for number in range(50)]
    assert len(set(starts)) > 40
    assert all(0 <= start < 900 for start in starts)
    assert starts[7] == Job("backup", "chat7", "", 900, "true").start_seconds
    assert job(delay=0).start_seconds == 0


def test_cron_reads_no_percent_sign_as_the_end_of_the_command() -> None:
    line = cron_line(job(request="{}"))
    assert "%" in line
    assert line.replace(r"\%", "").count("%") == 0


def test_a_crontab_has_the_lines_of_its_host_alone(environment: Environment) -> None:
    found = jobs(environment, checkout())
    text = crontab("production", "messages1", found, "ops@example.org")
    lines = [line for line in text.splitlines() if line[0].isdigit() or line.startswith("*")]
    assert "MAILTO=ops@example.org" in text
    assert lines[0].split(" ", 5)[:5] == ["15", "3", "*", "*", "*"]
    assert all("dbkeep drill" not in line for line in lines)
    assert "./dbkeep drill -e production" in crontab("production", CONTROLLER, found, "root")


def test_the_controllers_units_are_persistent_late_and_loud(environment: Environment) -> None:
    (drill,) = [one for one in jobs(environment, checkout()) if one.name == "drill"]
    found = units("production", drill, Path("/srv/dbkeep"), "ops")
    assert set(found) == {f"dbkeep-drill-production{end}" for end in (".service", ".timer", "-failed.service")}
    service, timer = found["dbkeep-drill-production.service"], found["dbkeep-drill-production.timer"]
    assert "OnFailure=dbkeep-drill-production-failed.service" in service
    assert "ExecStart=/srv/dbkeep/dbkeep drill -e production" in service
    assert "CPUWeight=20" in service
    assert "OnCalendar=*-*-* 05:00:00 UTC\nRandomizedDelaySec=900\nPersistent=true" in timer
