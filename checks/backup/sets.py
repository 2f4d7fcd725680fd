"""Is there a backup to restore from, that nobody but the key's holder can read?"""

from typing import Any

from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.evidence import TOLERANCE

OLDEST_HOURS = 26
"""A daily backup with two hours to be late."""

MISSED_POINTS = 3
"""How many points may be missing: one that falls into a restore or a restart is no finding."""

MISSED_ROUNDS = 6
"""How many rounds of shipping may be late before it is a finding: a slow round and a restart are none."""

AHEAD_SECONDS = TOLERANCE.total_seconds()
"""How far ahead of this host's clock a record may be: further, and the clock was ahead then, and is not any more."""

RUN = "run `dbkeep backup run`; look at `journalctl -u dbkeep-backup` on the host for why the timer's run failed"


@control(
    "BK-01",
    "Every engine has a backup younger than 26 hours",
    severity="critical",
    sources=("CIS PostgreSQL 17 7.3", "dbkeep design: recovery points"),
    fix=RUN,
)
def test_backup_is_fresh(backup_facts: dict[str, Any], observe: Observe) -> None:
    newest = backup_facts["newest"]
    ages = {engine: part and part["age_hours"] for engine, part in newest.items()}
    kept = ("at", "stored_bytes", "seconds")
    observe(newest={engine: part and {key: part[key] for key in kept} for engine, part in newest.items()})
    observe(age_hours=ages, sets=backup_facts["sets"])
    assert ages, "no engine is backed up on this host"
    wrong = [
        f"{engine} has none" if age is None else f"{engine} is {age} h old"
        for engine, age in ages.items()
        if age is None or not -AHEAD_SECONDS / 3600 <= age <= OLDEST_HOURS
    ]
    early = backup_facts["from_the_future"]
    wrong += [f"set {set_id} is of a time to come: the clock of the host jumps, or did" for set_id in early]
    assert not wrong, "; ".join(wrong)


@control(
    "BK-02",
    "What is stored is ciphertext",
    severity="critical",
    sources=("age-encryption.org/v1", "pgBackRest manual: repo-cipher-type"),
    fix="look at backup.json and pgbackrest.conf (repo1-cipher-type); delete the readable set and take a new one",
)
def test_stored_files_are_ciphertext(backup_facts: dict[str, Any], observe: Observe) -> None:
    wrong, seen = [], 0
    for engine, part in backup_facts["newest"].items():
        if part is None:
            continue  # BK-01 says so
        observe(**{engine: {"set": part["set_id"], "files": len(part["files"]), "recipients": part["recipients"]}})
        seen += len(part["files"])
        wrong += [f"{engine}/{name}: {state}" for name, state in part["files"].items() if state != "ciphertext"]
    repository = backup_facts["postgresql"]
    if repository is not None:
        observe(repository=repository)
        seen += repository["files"]
        wrong += [f"{path}: not ciphertext" for path in repository["not_ciphertext"]]
        if repository["cipher"] == "none":
            wrong.append("pgBackRest's repository has no cipher")
    assert seen, "nothing is stored"
    assert not wrong, "; ".join(wrong)


@control(
    "BK-03",
    "The backup's timers are on, and the last runs worked",
    severity="high",
    sources=("systemd.timer(5)", "CIS PostgreSQL 17 7.3"),
    fix="systemctl enable --now TIMER (run playbooks/site.yml); `journalctl -u SERVICE` says why a run failed",
)
def test_timers_are_on(backup_facts: dict[str, Any], observe: Observe) -> None:
    timers, services = backup_facts["timers"], backup_facts["services"]
    observe(timers=timers, services=services, run=backup_facts["run"])
    assert any("backup" in name for name in timers), "no backup timer is on this host"
    wrong = [
        f"{name} is {timer['ActiveState']}, {timer['UnitFileState'] or 'not installed'}"
        for name, timer in timers.items()
        if timer["ActiveState"] != "active" or timer["UnitFileState"] != "enabled"
    ]
    wrong += [f"{name} ended with {unit['Result']}" for name, unit in services.items() if unit["Result"] != "success"]
    assert not wrong, "; ".join(wrong)


@control(
    "BK-04",
    "The last drill proved its set, and a recovery point younger than 26 hours was drilled",
    severity="critical",
    sources=("CIS PostgreSQL 17 7.3", "dbkeep design: backups are worth what the last drill proved"),
    fix="run `dbkeep drill`; its evidence says what did not hold",
)
def test_drill_proved_it(backup_facts: dict[str, Any], observe: Observe) -> None:
    drill = backup_facts["drill"]
    observe(drill=drill)
    assert drill is not None, "no drill was ever run on this host"
    assert drill["passed"], "the last drill failed"
    assert drill["point_age_hours"] <= OLDEST_HOURS, f"the newest drilled point is {drill['point_age_hours']} h old"


@control(
    "BK-05",
    "The repository is closed to everyone but its owner",
    severity="critical",
    sources=("CIS PostgreSQL 17 8.2",),
    fix="run playbooks/site.yml (role backup), or: chmod -R o-rwx /var/lib/dbkeep/backup",
)
def test_repository_is_closed(backup_facts: dict[str, Any], observe: Observe) -> None:
    files = backup_facts["files"]
    observe(**files)
    assert files, "the repository is not there"
    top = min(files, key=len)  # its users pass through it to their own folders: it may be entered, not listed
    wrong = [
        f"{path} ({file['owner']}:{file['group']} {file['mode']})"
        for path, file in files.items()
        if int(file["mode"], 8) & (0o026 if path == top else 0o027)
    ]
    assert not wrong, f"open: {', '.join(wrong)}"


@control(
    "BK-06",
    "The key that opens the backups is not on the host that writes them",
    severity="critical",
    sources=("age(1)", "dbkeep design: the database host can encrypt and not decrypt"),
    fix="delete the file, make a new identity and recipients, take new backups: the old key was exposed",
)
def test_identity_is_elsewhere(backup_facts: dict[str, Any], observe: Observe) -> None:
    found = backup_facts["identities_on_host"]
    observe(found_in=found, recipients=backup_facts["recipients"])
    if not backup_facts["recipients"]:
        not_applicable("nothing is encrypted to an age recipient on this host")
    assert not found, f"age identities in {', '.join(found)}"


@control(
    "BK-07",
    "The newest set of every engine has a copy off the host",
    severity="critical",
    sources=("CISA: 3-2-1 rule", "dbkeep design: two copies, one off the host"),
    fix="declare a store in backup_stores (docs/stores.md), run playbooks/site.yml, then `dbkeep backup copy`",
)
def test_a_copy_is_off_the_host(backup_facts: dict[str, Any], observe: Observe) -> None:
    away = {store["name"]: store for store in backup_facts["stores"] if store["off_host"]}
    newest = {engine: part and part["set_id"] for engine, part in backup_facts["newest"].items()}
    observe(stores=sorted(away), newest=newest)
    assert away, "no store off this host is declared"
    errors = [store["error"] for store in away.values() if store["error"]]
    held = {part for store in away.values() for part in store["parts"]}
    parts = {engine: f"{set_id}/{engine}" for engine, set_id in newest.items()}
    wrong = [f"{engine}: set {newest[engine]} has none" for engine, part in parts.items() if part not in held]
    assert not wrong, "; ".join([*wrong, *errors])


@control(
    "BK-08",
    "Stores with object lock refuse to delete what is locked",
    severity="critical",
    sources=("Amazon S3 manual: object lock, compliance mode", "dbkeep design: prove by acting"),
    fix="`dbkeep backup stores --prepare` turns versions and object lock on; a store that cannot lock is no such store",
)
def test_locked_copies_stay(backup_facts: dict[str, Any], observe: Observe) -> None:
    locking = {store["name"]: store for store in backup_facts["stores"] if store["lock_days"]}
    observe(locked={name: store["locked"] for name, store in locking.items()})
    if not locking:
        not_applicable("no store with object lock is declared")
    wrong = [f"{name}: {fault}" for name, store in locking.items() for fault in store["faults"]]
    assert not wrong, "; ".join(wrong)


@control(
    "BK-09",
    "Three copies, two media, one off the host, one locked, no error in the last drill",
    severity="medium",
    sources=("CISA: 3-2-1 rule", "dbkeep design: backups are worth what the last drill proved"),
    fix="declare what is missing in backup_stores (docs/stores.md), then `dbkeep backup copy`; run `dbkeep drill`",
)
def test_the_newest_set_scores_3_2_1_1_0(backup_facts: dict[str, Any], observe: Observe) -> None:
    score = backup_facts["score"]
    observe(**score)
    assert not score["missing"], "; ".join(score["missing"])


@control(
    "BK-10",
    "Every engine's log is archived, and was a few rounds ago",
    severity="critical",
    sources=("dbkeep design: any second since the last set can be restored",),
    fix="`journalctl -u dbkeep-ship` says what failed; systemctl enable --now dbkeep-ship.service (playbooks/site.yml)",
)
def test_log_is_archived(backup_facts: dict[str, Any], observe: Observe) -> None:
    log = backup_facts["log"]
    observe(**log)
    oldest = MISSED_ROUNDS * log["every_seconds"]
    assert log["age_seconds"], "no engine's log is archived on this host"
    wrong = [
        f"{engine} has no log" if age is None else f"the log of {engine} ends {age} s ago"
        for engine, age in log["age_seconds"].items()
        if age is None or not -AHEAD_SECONDS <= age <= oldest
    ]
    wrong += [f"{what}: {fault}" for what, fault in log["faults"].items()]
    assert not wrong, "; ".join(wrong)


@control(
    "BK-11",
    "A recovery point was set in every engine at once, a few minutes ago",
    severity="high",
    sources=("dbkeep design: recovery points",),
    fix="`journalctl -u dbkeep-point` says what failed; systemctl enable --now dbkeep-point.timer (playbooks/site.yml)",
)
def test_a_point_is_fresh(backup_facts: dict[str, Any], observe: Observe) -> None:
    newest = backup_facts["points"]["newest"]
    observe(**backup_facts["points"])
    assert newest is not None, "no point was ever set on this host"
    oldest = MISSED_POINTS * backup_facts["points"]["every_minutes"]
    is_fresh = -AHEAD_SECONDS / 60 <= newest["age_minutes"] <= oldest
    assert is_fresh, f"the newest point is {newest['age_minutes']} minutes old"
    missing = [engine for engine in backup_facts["engines"] if engine not in newest["engines"]]
    assert not missing, f"the newest point is not in {', '.join(missing)}"
