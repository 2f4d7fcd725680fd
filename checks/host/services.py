"""Do the services run, come back, and stay in their sandbox?"""

from typing import Any

from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

UNITS = {
    "postgresql": ("postgresql@",),
    "mongodb": ("mongod.service",),
    "redis": ("{server}-server@state.service", "{server}-server@cache.service"),
    "chat_api": ("chat-api.service",),
}


def expected_services(target: Host, host_facts: dict[str, Any]) -> dict[str, dict[str, str] | None]:
    """Return the units that the host's groups ask for with systemd's properties, None for one that is not there."""
    found: dict[str, dict[str, str] | None] = {}
    server = target.variables.get("redis_server", "redis")
    for group, prefixes in UNITS.items():
        for prefix in [each.format(server=server) for each in prefixes] if group in target.groups else ():
            names = [name for name in host_facts["services"] if name.startswith(prefix)]
            found |= {name: host_facts["services"][name] for name in names} or {prefix: None}
    return found


@control(
    "OS-05",
    "Every service of the host runs, starts at boot and is started again when it fails",
    severity="high",
    sources=("CIS PostgreSQL 17 1.3", "systemd.service(5)"),
    fix="look at `systemctl status UNIT` and `journalctl -u UNIT`; run playbooks/site.yml to enable it again",
)
def test_services_run(target: Host, host_facts: dict[str, Any], observe: Observe) -> None:
    services = expected_services(target, host_facts)
    kept = ("ActiveState", "UnitFileState", "Restart")
    observe(**{name: unit and {key: unit[key] for key in kept} for name, unit in services.items()})
    wrong = []
    for name, unit in services.items():
        if unit is None or unit["ActiveState"] != "active":
            wrong.append(f"{name} is {unit['ActiveState'] if unit else 'not there'}")
        elif not unit["UnitFileState"].startswith("enabled"):
            wrong.append(f"{name} does not start at boot ({unit['UnitFileState'] or 'no unit file'})")
        elif unit["Restart"] not in ("on-failure", "always", "on-abnormal"):
            wrong.append(f"{name} is not started again when it fails (Restart={unit['Restart']})")
    assert services, "no service is expected here: the host is in no group"
    assert not wrong, "; ".join(wrong)


@control(
    "OS-04",
    "Every service runs in a systemd sandbox, as its own user",
    severity="high",
    sources=("systemd.exec(5): Sandboxing", "CIS MongoDB 7 3.3"),
    fix="run playbooks/site.yml; look at `systemctl cat UNIT` for a drop-in that opens the sandbox",
)
def test_services_are_sandboxed(target: Host, host_facts: dict[str, Any], observe: Observe) -> None:
    wanted = {
        "NoNewPrivileges": ("yes",),
        "ProtectSystem": ("strict", "full"),
        "ProtectHome": ("yes", "read-only", "tmpfs"),
        "PrivateTmp": ("yes",),
        "PrivateDevices": ("yes",),
    }
    wrong = []
    services = {name: unit for name, unit in expected_services(target, host_facts).items() if unit}
    for name, unit in services.items():
        wrong += [f"{name}: {key}={unit[key]}" for key, values in wanted.items() if unit[key] not in values]
        if not unit["RestrictAddressFamilies"]:
            wrong.append(f"{name}: RestrictAddressFamilies is not set")
        if unit["User"] in ("", "root") and not name.startswith("postgresql@"):
            wrong.append(f"{name}: runs as root")
    observe(**services)
    assert services, "none of the host's services is known to systemd"
    assert not wrong, "; ".join(wrong)


@control(
    "OS-06",
    "A crash of a service leaves no memory image on disk",
    severity="medium",
    sources=("CIS Debian Linux 12 1.5", "core(5)"),
    fix="set LimitCORE=0 in the unit (run playbooks/site.yml) and restart it when that is allowed",
)
def test_core_dumps_are_off(host_facts: dict[str, Any], observe: Observe) -> None:
    limits = host_facts["core_limits"]
    observe(**limits)
    assert limits, "no service runs"
    dumping = [f"{unit} ({limit})" for unit, limit in limits.items() if limit != "0"]
    assert not dumping, f"may dump core: {', '.join(dumping)}"


@control(
    "OS-23",
    "No unit has failed",
    severity="medium",
    sources=("systemctl(1): --failed",),
    fix="look at `systemctl status UNIT`, put it right, then `systemctl reset-failed UNIT`",
)
def test_no_failed_unit(host_facts: dict[str, Any], observe: Observe) -> None:
    failed = host_facts["failed_units"]
    observe(failed=failed)
    assert not failed, f"failed: {', '.join(failed)}"


@control(
    "OS-15",
    "The clock is synchronised",
    severity="medium",
    sources=("CIS Debian Linux 12 2.3",),
    fix="enable systemd-timesyncd or chrony: recovery points and logs of several hosts are compared by time",
)
def test_clock_is_synchronised(host_facts: dict[str, Any], observe: Observe) -> None:
    if host_facts["container"]:
        not_applicable(f"a container ({host_facts['container']}) has the clock of its machine")
    observe(**host_facts["clock"])
    assert host_facts["clock"]["NTPSynchronized"] == "yes", "NTPSynchronized is no"
