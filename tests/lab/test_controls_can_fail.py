"""Every control that is broken by hand on a real host notices, and is clean again after the repair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from . import breakages
from .breakages import Breakage
from .conftest import UpLab, dbkeep

ENGINES = ("postgresql", "mongodb", "redis")


def states(lab: UpLab, report: Path) -> dict[str, str]:
    """Run all checks and return the state of every control."""
    done = dbkeep("check", "-e", lab.name, "--json", str(report))
    assert report.exists(), done.err
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    return {result["control"]: f"{result['state']}: {result['message']}" for result in results}


def run_all(lab: UpLab, commands: list[str]) -> None:
    """Run shell commands on the host, one after another in one call; the first that fails ends it."""
    lab.run("set -e\n" + "\n".join(commands))


def repair(lab: UpLab) -> None:
    """Repair what was broken; the backups last, which take a recovery point of engines that work again."""
    run_all(lab, repairs(breakages.SERVERS))
    for engine in ENGINES:
        done = dbkeep("apply", "-e", lab.name, engine, "--allow-destructive")
        assert done.status == 0, done.out + done.err
    run_all(lab, repairs(breakages.BACKUP))


def repairs(broken: Sequence[Breakage]) -> list[str]:
    return [breakage.repair for breakage in reversed(broken) if breakage.repair]


def test_broken_controls_fail_and_repaired_ones_pass(lab: UpLab, tmp_path: Path) -> None:
    run_all(lab, [breakage.command for breakage in breakages.ALL])
    try:
        broken = states(lab, tmp_path / "broken.json")
    finally:
        repair(lab)
    repaired = states(lab, tmp_path / "repaired.json")

    wanted = {control for breakage in breakages.ALL for control in breakage.controls}
    unnoticed = {name: broken[name] for name in wanted if not broken[name].startswith("fail")}
    assert not unnoticed
    unclean = {name: state for name, state in repaired.items() if state.startswith(("fail", "error"))}
    assert not unclean


def test_an_expired_waiver_an_open_secret_and_an_open_password_of_the_vault_are_findings(lab: UpLab) -> None:
    folder = lab.environment.path
    waivers = folder / "waivers.yml"
    kept = waivers.read_text(encoding="utf-8")
    leaked = folder / "group_vars/all/notes.yml"
    password = folder / ".vault-password"
    try:
        password.chmod(0o644)
        waivers.write_text(
            "waivers:\n  - {control: MG-VER-01, owner: Ada, reason: long gone by now, expires: 2020-01-31}\n",
            encoding="utf-8",
        )
        leaked.write_text(f"# {lab.environment.secrets['redis']['svc_ws']}\n", encoding="utf-8")
        done = dbkeep("check", "-e", lab.name, "ENV-01", "ENV-02", "ENV-03", "MG-VER-01")
    finally:
        waivers.write_text(kept, encoding="utf-8")
        leaked.unlink()
        password.chmod(0o600)
    assert done.status == 1, done.err
    assert "expired: MG-VER-01 (Ada, 2020-01-31)" in done.out
    assert "has mode 0644: others can read it" in done.out
    assert "secrets stand open in group_vars/all/notes.yml" in done.out
    assert "the waiver of Ada expired on 2020-01-31" in done.out


def test_a_host_that_is_down_or_unknown_ends_with_one_line_and_exit_2(lab: UpLab) -> None:
    missing = dbkeep("check", "-e", "no-such-environment")
    assert missing.status == 2
    assert missing.err.count("\n") == 1

    hosts = lab.environment.path / "hosts.yml"
    kept = hosts.read_text(encoding="utf-8")
    try:
        hosts.write_text(kept.replace(lab.host.address, "198.19.255.254"), encoding="utf-8")
        unreachable = dbkeep("check", "-e", lab.name)
    finally:
        hosts.write_text(kept, encoding="utf-8")
    assert unreachable.status == 2
    assert unreachable.err.count("\n") == 1
    assert lab.host.name in unreachable.err
