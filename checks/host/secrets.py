"""Do the host's secrets stay secret?"""

from typing import Any

from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe


@control(
    "OS-18",
    "No secret is in a process's arguments or environment, a readable file or the journal",
    severity="critical",
    sources=("CIS PostgreSQL 17 2.1", "CIS PostgreSQL 17 2.4"),
    fix="stop what shows it, make a new secret in the vault and run playbooks/site.yml: what was readable is known",
)
def test_no_secret_lies_open(leaks: dict[str, Any], observe: Observe) -> None:
    places = [*leaks["in_processes"], *leaks["in_files"], *(f"journal of {unit}" for unit in leaks["in_journal"])]
    observe(looked_for=leaks["looked_for"], looked_at=leaks["looked_at"], found_in=places)
    assert leaks["looked_for"], "the vault holds no secret to look for"
    assert not places, f"secrets lie open in {', '.join(places)}"


@control(
    "OS-19",
    "Files that hold secrets are readable by their service only",
    severity="critical",
    sources=("STIG SV-261894", "CIS MongoDB 7 7.1", "CIS PostgreSQL 17 2.1"),
    fix="run playbooks/site.yml: the roles set owner and mode of each of these files",
)
def test_private_files_are_private(host_facts: dict[str, Any], observe: Observe) -> None:
    files = host_facts["files"]
    observe(**files)
    assert files, "none of the files with secrets is there"
    open_files = [f"{path} ({file['mode']})" for path, file in files.items() if int(file["mode"], 8) & 0o007]
    writable = [f"{path} ({file['mode']})" for path, file in files.items() if int(file["mode"], 8) & 0o020]
    assert not open_files, f"every user can reach {', '.join(open_files)}"
    assert not writable, f"a group can change {', '.join(writable)}"


@control(
    "OS-03",
    "Nobody can log on as a service's account: its password is locked and it has no SSH key",
    severity="high",
    sources=("CIS Debian Linux 12 5.4",),
    fix="usermod --lock ACCOUNT, and remove the .ssh folder of its home",
)
def test_service_accounts_cannot_log_on(host_facts: dict[str, Any], observe: Observe) -> None:
    accounts = host_facts["accounts"]
    observe(**accounts)
    assert accounts, "none of the services' accounts is there"
    wrong = [
        f"{name} ({account['shell']}, password {account['password']}, SSH keys {account['authorized_keys']})"
        for name, account in accounts.items()
        if account["password"] != "locked" or account["authorized_keys"] != "none"  # noqa: S105 - states
    ]
    assert not wrong, f"can log on: {', '.join(wrong)}"


@control(
    "OS-24",
    "Certificates are valid for 30 days more",
    severity="high",
    sources=("STIG SV-261893",),
    fix="run playbooks/site.yml: the role tls issues a certificate again before it ends",
)
def test_certificates_are_valid(host_facts: dict[str, Any], observe: Observe) -> None:
    certificates = host_facts["certificates"]
    observe(**certificates)
    assert certificates, "no certificate is in /etc/dbkeep/tls"
    ending = [f"{name} in {entry['days_left']} days" for name, entry in certificates.items() if entry["days_left"] < 30]
    assert not ending, f"end soon: {', '.join(ending)}"


@control(
    "OS-22",
    "At least 15 % of space and files are free where data and logs are",
    severity="medium",
    sources=("statvfs(3)",),
    fix="enlarge the disk, or find what fills it: du -xh --max-depth=2 FOLDER",
)
def test_disks_have_room(host_facts: dict[str, Any], observe: Observe) -> None:
    disks = host_facts["disks"]
    observe(**disks)
    if not disks:
        not_applicable("the host has none of the data folders")
    full = [f"{folder} ({min(free.values())} % free)" for folder, free in disks.items() if min(free.values()) < 15]
    assert not full, f"nearly full: {', '.join(full)}"
