"""Backups on a real host: listed and verified; the drill's copy equals the source; a restore brings data back."""

from __future__ import annotations

import time

from .conftest import UpLab, dbkeep


def test_the_timer_runs_the_backup_and_a_set_verifies(lab: UpLab) -> None:
    timers = lab.run("systemctl list-timers --all --no-legend")
    assert "dbkeep-backup.timer" in timers
    lab.run("sudo systemctl start dbkeep-backup.service")
    assert lab.run("systemctl show -P Result dbkeep-backup.service").strip() == "success"
    listed = dbkeep("backup", "list", "-e", lab.name, "--json")
    assert listed.status == 0, listed.err
    newest = listed.json["sets"][-1]
    assert sorted(newest["engines"]) == ["mongodb", "postgresql", "redis"]
    verified = dbkeep("backup", "verify", "-e", lab.name, "--set", newest["set_id"])
    assert verified.status == 0, verified.out + verified.err


def test_the_drilled_copy_holds_the_counts_of_the_source_and_rls_holds_on_it(lab: UpLab) -> None:
    assert dbkeep("backup", "run", "-e", lab.name).status == 0
    source = lab.counts()
    done = dbkeep("drill", "-e", lab.name, "--json")
    assert done.status == 0, done.out + done.err
    seen = {a["what"]: a for part in done.json["engines"].values() for a in part["assertions"]}
    assert all(a["holds"] for a in seen.values())
    rows = {what.removeprefix("rows of "): a["observed"] for what, a in seen.items() if what.startswith("rows of ")}
    documents = {
        w.removeprefix("documents of "): a["observed"] for w, a in seen.items() if w.startswith("documents of ")
    }
    assert rows == source["postgresql"]
    assert documents == source["mongodb"]
    assert any("row" in what and "no user" in what for what in seen), sorted(seen)


def test_a_restore_brings_back_what_was_lost(lab: UpLab) -> None:
    run = dbkeep("backup", "run", "-e", lab.name, "--json")
    assert run.status == 0, run.err
    before = lab.counts()
    assert before["postgresql"]["chat.settings"] >= 0
    lab.run("sudo -u postgres psql -qd chat -c 'DELETE FROM chat.users'")
    assert lab.counts()["postgresql"]["chat.users"] == 0
    restored = dbkeep("restore", "-e", lab.name, "--set", run.json["set_id"], "--yes")
    assert restored.status == 0, restored.out + restored.err
    after = lab.counts()
    assert after["postgresql"] == before["postgresql"]
    assert after["mongodb"] == before["mongodb"]
    # The service that ships the logs, which begin anew, takes a set by itself.
    deadline = time.monotonic() + 120
    while dbkeep("check", "-e", lab.name, "BK-10").status and time.monotonic() < deadline:
        time.sleep(2)
    checked = dbkeep("check", "-e", lab.name)
    assert checked.status == 0, checked.out
    # One at a time: that set may be under way.
    while "held by" in (run := dbkeep("backup", "run", "-e", lab.name)).err and time.monotonic() < deadline:
        time.sleep(2)
    assert run.status == 0, run.err


def test_a_host_without_a_store_says_so(lab: UpLab) -> None:
    copied = dbkeep("backup", "copy", "-e", lab.name)
    assert copied.status == 0, copied.err
    proved = dbkeep("backup", "stores", "-e", lab.name, "--json")
    assert proved.status == 0, proved.err
    assert proved.json == {"stores": []}


def test_a_set_shows_its_digests_and_its_signer_and_retention_lets_none_go(lab: UpLab) -> None:
    assert dbkeep("backup", "run", "-e", lab.name).status == 0
    shown = dbkeep("backup", "show", "-e", lab.name, "--json")
    assert shown.status == 0, shown.err
    parts = shown.json["parts"]
    assert {part["signed_by"] for part in parts.values()} == {lab.environment.variables["backup_signing_keys"][-1]}
    assert {"chat.users", "chat.messages", "state"} <= {name for part in parts.values() for name in part["digests"]}
    pruned = dbkeep("backup", "prune", "-e", lab.name, "--dry-run", "--json")
    assert pruned.status == 0, pruned.err
    assert pruned.json["hosts"][lab.host.name]["removed"] == {"local": []}


def test_a_set_whose_signature_is_gone_is_refused_until_its_host_signs_it(lab: UpLab) -> None:
    run = dbkeep("backup", "run", "-e", lab.name, "--engine", "redis", "--json")
    assert run.status == 0, run.err
    set_id = run.json["set_id"]
    lab.run(f"sudo rm /var/lib/dbkeep/backup/sets/{set_id}/redis/SHA256SUMS.sig")
    refused = dbkeep("drill", "-e", lab.name, "--set", set_id, "--engine", "redis")
    assert refused.status == 1, refused.out
    assert "not signed" in refused.err
    assert dbkeep("backup", "list", "-e", lab.name).status == 1
    signed = dbkeep("backup", "sign", "-e", lab.name, "--yes", "--json")
    assert signed.status == 0, signed.err
    assert signed.json["parts"] == {lab.host.name: [f"{set_id}/redis"]}
    assert dbkeep("drill", "-e", lab.name, "--set", set_id, "--engine", "redis").status == 0
    assert dbkeep("backup", "list", "-e", lab.name).status == 0
