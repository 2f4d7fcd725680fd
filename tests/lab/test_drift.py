"""Drift planted by hand on each engine: named, repaired by apply, found clean."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from dbkeep.environment import ansible_environment, checkout

from .conftest import UpLab, dbkeep

MONGODB = """
import json, pathlib, pymongo
s = json.loads(pathlib.Path('/etc/dbkeep/agent.d/mongodb.json').read_text())
client = pymongo.MongoClient(s['host'], s['port'], tls=True, tlsCAFile=s['ca_file'], directConnection=True,
    tlsCertificateKeyFile=s['certificate_key_file'], authMechanism='MONGODB-X509', authSource='$external')
client['chat'].command('collMod', 'messages', validator={}, validationLevel='off')
"""

BREAK = {
    "postgresql": "sudo -u postgres psql -qd chat -c 'ALTER TABLE chat.profiles NO FORCE ROW LEVEL SECURITY'",
    "mongodb": f"sudo /opt/dbkeep/venv/bin/python -c {shlex.quote(MONGODB)}",
    "redis": (
        "sudo sh -c 'REDISCLI_AUTH=$(cat /etc/dbkeep/secrets/redis-admin) redis-cli -s /run/redis-state/redis.sock"
        " --user admin CONFIG SET appendfsync no'"
    ),
}
NAMED = {"postgresql": "chat.profiles", "mongodb": "messages", "redis": "appendfsync"}


def test_planted_drift_is_named_repaired_and_gone(lab: UpLab, tmp_path: Path) -> None:
    clean = dbkeep("drift", "-e", lab.name)
    assert clean.status == 0, clean.out + clean.err
    lab.run("set -e\n" + "\n".join(BREAK.values()))

    drift = dbkeep("drift", "-e", lab.name)
    assert drift.status == 1, drift.err
    assert all(name in drift.out for name in NAMED.values()), drift.out

    plan = dbkeep("plan", "-e", lab.name, "--json")
    assert plan.status == 1
    assert {plan["engine"]: len(plan["changes"]) for plan in plan.json["plans"]} == dict.fromkeys(BREAK, 1)

    report = tmp_path / "report.json"
    assert dbkeep("check", "-e", lab.name, "--json", str(report)).status == 1
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    failed = {result["control"] for result in results if result["state"] == "fail"}
    assert {"PG-DRIFT", "MG-DRIFT", "RD-DRIFT"} <= failed

    diff = playbook(lab.name, "--check", "--diff")
    assert diff.returncode == 0, diff.stdout
    assert all(name in diff.stdout for name in NAMED.values())

    assert dbkeep("apply", "-e", lab.name).status == 0
    assert dbkeep("drift", "-e", lab.name).status == 0
    checked = dbkeep("check", "-e", lab.name)
    assert checked.status == 0, checked.out


def playbook(environment: str, *arguments: str, book: str = "site.yml") -> subprocess.CompletedProcess[str]:
    """Run a playbook as a person would, without our command line."""
    root = checkout()
    inventory = Path("inventory") / environment
    return subprocess.run(
        [".venv/bin/ansible-playbook", "-i", str(inventory), f"playbooks/{book}", *arguments],
        cwd=root,
        env={k: v for k, v in ansible_environment(inventory, root).items() if k != "ANSIBLE_VAULT_PASSWORD_FILE"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_plain_ansible_playbook_reports_no_change(lab: UpLab) -> None:
    done = playbook(lab.name)
    assert done.returncode == 0, done.stdout
    assert recap(done.stdout) == {f"{lab.name}-1": "changed=0"}


def test_check_mode_of_a_converged_host_reports_no_change(lab: UpLab) -> None:
    done = playbook(lab.name, "--check", "--diff")
    assert done.returncode == 0, done.stdout
    assert recap(done.stdout) == {f"{lab.name}-1": "changed=0"}


@pytest.mark.long
def test_a_setting_that_needs_a_restart_waits_until_it_is_allowed(lab: UpLab) -> None:
    psql = "sudo -u postgres psql -qAtc"
    started = f"{psql} 'SELECT pg_postmaster_start_time()'"
    before = lab.run(started)
    variables = lab.environment.path / "group_vars" / "all" / "connections.yml"
    try:
        variables.write_text("postgresql_settings: {max_connections: 120}\n", encoding="utf-8")
        waiting = playbook(lab.name, "--tags", "postgresql")
        assert waiting.returncode == 0, waiting.stdout
        assert "-e postgresql_restart_allowed=true" in " ".join((waiting.stdout + waiting.stderr).split())
        assert lab.run(started) == before
        drift = dbkeep("drift", "-e", lab.name, "postgresql")
        assert drift.status == 1
        assert 'max_connections is "100", declared "120"' in drift.out
        checked = dbkeep("check", "-e", lab.name, "PG-SET-02")
        assert checked.status == 1, checked.out

        allowed = playbook(lab.name, "--tags", "postgresql", "-e", "postgresql_restart_allowed=true")
        assert allowed.returncode == 0, allowed.stdout
        assert lab.run(f"{psql} 'SHOW max_connections'").strip() == "120"
        assert lab.run(started) != before
        assert dbkeep("check", "-e", lab.name, "PG-SET-02", "PG-AUTH-07").status == 0
    finally:
        variables.unlink()
        assert playbook(lab.name, "--tags", "postgresql").returncode == 0
        # A restart by hand is as good as one by the agent.
        lab.run("sudo systemctl restart 'postgresql@*-main.service'")
    assert dbkeep("drift", "-e", lab.name, "postgresql").status == 0


def recap(output: str) -> dict[str, str]:
    lines = output[output.index("PLAY RECAP") :].splitlines()[1:]
    return {line.split()[0]: line.split()[3] for line in lines if ": ok=" in line}
