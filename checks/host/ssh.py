"""Does SSH let in nobody without a key?"""

import subprocess
from typing import Any

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host
from dbkeep.remote import ssh_command


@control(
    "OS-11",
    "sshd takes keys only, and never root's password",
    severity="high",
    sources=("CIS Debian Linux 12 5.1", "sshd_config(5)"),
    fix="run playbooks/site.yml (role host): it sets these in /etc/ssh/sshd_config.d",
)
def test_sshd_takes_keys_only(host_facts: dict[str, Any], observe: Observe) -> None:
    wanted = {
        "passwordauthentication": ("no",),
        "kbdinteractiveauthentication": ("no",),
        "permitemptypasswords": ("no",),
        "permitrootlogin": ("no", "prohibit-password", "without-password", "forced-commands-only"),
        "x11forwarding": ("no",),
    }
    found = {name: host_facts["sshd"].get(name) for name in wanted}
    observe(**found)
    wrong = [f"{name} is {found[name]}" for name, values in wanted.items() if found[name] not in values]
    assert not wrong, "; ".join(wrong)


@control(
    "OS-11-PROBE",
    "A logon without a key is offered no password prompt",
    severity="high",
    sources=("CIS Debian Linux 12 5.1", "RFC 4252 section 5.1"),
    fix="set PasswordAuthentication and KbdInteractiveAuthentication to no, then reload ssh",
)
def test_ssh_offers_no_password(target: Host, observe: Observe) -> None:
    *options, destination = ssh_command(target, tunnel=True)
    done = subprocess.run(
        [
            options[0],
            "-o",
            "PubkeyAuthentication=no",
            "-o",
            "PreferredAuthentications=none",
            *options[1:],
            destination,
            "true",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stderr.strip().splitlines() or [""])[-1]
    offered = said.rpartition("(")[2].rstrip(").").split(",") if "Permission denied" in said else []
    observe(exit_status=done.returncode, offered=offered)
    assert done.returncode == 255, "a logon without any key succeeded"
    assert offered == ["publickey"], f"the server offers {', '.join(offered) or said}"
