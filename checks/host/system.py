"""Is the operating system set up so that what the roles built stays so?"""

import json
import re

from testinfra.host import Host as Testinfra

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe

SERVICE_ACCOUNTS = ("postgres", "mongodb", "redis", "valkey", "chat_api")


@control(
    "OS-25",
    "The firewall is loaded at boot",
    severity="critical",
    sources=("CIS Debian Linux 12 4.3", "nft(8)"),
    fix="systemctl enable --now nftables (run playbooks/site.yml)",
)
def test_firewall_is_loaded_at_boot(host: Testinfra, observe: Observe) -> None:
    service = host.service("nftables")
    observe(enabled=service.is_enabled, running=service.is_running)
    assert service.is_enabled, "nftables.service is not enabled"


@control(
    "OS-12",
    "No service's account may use sudo",
    severity="high",
    sources=("CIS PostgreSQL 17 4.2", "sudoers(5)"),
    fix="remove the account's line from /etc/sudoers.d, or the account from the group that has one",
)
def test_services_have_no_sudo(host: Testinfra, observe: Observe) -> None:
    accounts = [name for name in SERVICE_ACCOUNTS if host.user(name).exists]
    listed = host.run(f"for name in {' '.join(accounts)}; do sudo -n -l -U $name; done").stdout
    allowed = [name for name in accounts if f"User {name} is not allowed to run sudo" not in listed]
    observe(accounts=accounts, allowed=allowed)
    assert accounts, "none of the services' accounts is there"
    assert not allowed, f"may use sudo: {', '.join(allowed)}"


@control(
    "OS-13",
    "apt takes nothing from a repository without a valid signature",
    severity="high",
    sources=("CIS PostgreSQL 17 1.1", "apt-secure(8)"),
    fix="give the repository a signing key (signed-by) and remove trusted=yes and AllowInsecureRepositories",
)
def test_repositories_are_signed(host: Testinfra, observe: Observe) -> None:
    sources = host.run(
        "cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources"
    ).stdout
    settings = host.check_output("apt-config dump").splitlines()
    lines = [line.strip() for line in sources.splitlines() if line.strip() and not line.startswith("#")]
    trusting = [line for line in lines if re.search(r"trusted\s*[=:]\s*yes", line, re.IGNORECASE)]
    lax = re.compile(r'(Insecure|AllowUnauthenticated).*"(1|true|yes)"', re.IGNORECASE)
    insecure = [line for line in settings if lax.search(line)]
    observe(lines=len(lines), trusting=trusting, insecure=insecure)
    assert lines, "apt has no repository at all"
    assert not trusting, f"trusted without a signature: {'; '.join(trusting)}"
    assert not insecure, f"apt accepts unsigned repositories: {'; '.join(insecure)}"


@control(
    "OS-16",
    "The journal survives a restart of the host",
    severity="medium",
    sources=("CIS Debian Linux 12 6.1", "journald.conf(5)"),
    fix="run playbooks/site.yml (role host): it sets Storage=persistent",
)
def test_journal_is_persistent(host: Testinfra, observe: Observe) -> None:
    # The logon and the sudo of this very check are entries, so something new is always there.
    newest, stored = (
        int(json.loads(host.check_output(f"journalctl --lines 1 --output json {where}"))["__REALTIME_TIMESTAMP"])
        for where in ("", "--directory /var/log/journal")
    )
    behind = (newest - stored) / 1_000_000
    observe(stored_entries_are_behind_by_seconds=round(behind, 1))
    assert behind < 5, f"the newest entry in /var/log/journal is {behind:.0f} s older than the newest of all"
