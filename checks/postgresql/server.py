"""Is the PostgreSQL server set up so that data stays whole, private and as declared?"""

from collections.abc import Callable
from typing import Any

from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.checks.server_settings import observe_settings
from dbkeep.environment import Environment, Host

SITE = (
    "look at `dbkeep plan postgresql`, then run `dbkeep apply postgresql`; what needs a restart waits for"
    " playbooks/site.yml -e postgresql_restart_allowed=true"
)
# What a plan calls changes of the server's own configuration.
CONFIGURATION = ("configuration file", "server setting", "reload", "restart")
# An asynchronous archive says after a minute that it failed, and goes on trying.
LONGEST_WAIT_SECONDS = 300


@control(
    "PG-DRIFT",
    "PostgreSQL is as declared: the plan is empty",
    severity="high",
    sources=("dbkeep design: one diff for plan, apply, drift and checks",),
    fix="look at `dbkeep plan postgresql`, then run `dbkeep apply postgresql`",
)
def test_plan_is_empty(
    environment: Environment, target: Host, plan: Callable[[str], list[dict[str, Any]]], observe: Observe
) -> None:
    if target != environment.hosts("postgresql")[0]:
        not_applicable("a replica is what its primary is")
    changes = [f"{change['kind']} {change['target']}: {change['summary']}" for change in plan("postgresql")]
    observe(changes=changes)
    assert not changes, f"{len(changes)} changes, first {changes[0]}"


@control(
    "PG-SET-02",
    "Every setting and rule in force is the declared one: nothing overrides it, nothing waits for a restart",
    severity="high",
    sources=("STIG SV-261924", "PostgreSQL manual 20.1 Setting Parameters"),
    fix=SITE,
)
def test_configuration_is_as_declared(plan: Callable[[str], list[dict[str, Any]]], observe: Observe) -> None:
    changes = [
        f"{change['kind']} {change['target']}: {change['summary']}"
        for change in plan("postgresql") if change["kind"] in CONFIGURATION
    ]  # fmt: skip
    observe(changes=changes)
    assert not changes, f"{len(changes)} changes, first {changes[0]}"


@control(
    "PG-VER-05",
    "Data pages carry checksums, and none has failed",
    severity="high",
    sources=("pgdsat 1.4.3", "PostgreSQL manual 30.2 Data Checksums"),
    fix="enable with pg_checksums --enable on the stopped cluster; a failure means damaged storage: restore",
)
def test_checksums(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    wrong = observe_settings(postgresql_facts, observe, {"data_checksums": ("on",)})
    failures = postgresql_facts["checksum_failures"]
    observe(failures=failures)
    assert not wrong, "; ".join(wrong)
    assert not failures, f"damaged pages in {', '.join(entry['name'] for entry in failures)}"


@control(
    "PG-REP-01",
    "No replication slot keeps write-ahead log for a consumer that is gone, and none may fill the disk",
    severity="medium",
    sources=("CIS PostgreSQL 17 7.5", "PostgreSQL manual 20.6.1 Sending Servers"),
    fix="drop the slot (pg_drop_replication_slot) or bring its consumer back",
)
def test_slots_are_used(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    limit, slots = postgresql_facts["settings"]["max_slot_wal_keep_size"], postgresql_facts["slots"]
    observe(max_slot_wal_keep_size=limit, slots=slots)
    assert limit != "-1", "max_slot_wal_keep_size has no limit"
    stale = [slot["name"] for slot in slots if not slot["active"]]
    assert not stale, f"unused: {', '.join(stale)}"


@control(
    "PG-BAK-03",
    "Commits reach the disk: fsync and full_page_writes are on",
    severity="high",
    sources=("PostgreSQL manual 20.5.1 Write Ahead Log Settings",),
    fix=SITE,
)
def test_commits_reach_the_disk(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    wrong = observe_settings(postgresql_facts, observe, {"fsync": ("on",), "full_page_writes": ("on",)})
    assert not wrong, "; ".join(wrong)


@control(
    "PG-SET-01",
    "Developer switches that read or write damaged data are off",
    severity="medium",
    sources=("CIS PostgreSQL 17 6.2", "PostgreSQL manual 20.17 Developer Options"),
    fix=SITE,
)
def test_developer_switches(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    names = ("allow_system_table_mods", "zero_damaged_pages", "ignore_system_indexes")
    wrong = observe_settings(postgresql_facts, observe, dict.fromkeys(names, ("off",)))
    assert not wrong, "; ".join(wrong)


@control(
    "PG-PRIV-15",
    "No role may change server settings, and where the server can forbid ALTER SYSTEM it does",
    severity="medium",
    sources=("STIG SV-261924", "PostgreSQL manual 20.17: allow_alter_system"),
    fix=SITE,
)
def test_settings_are_not_delegated(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    grants, allowed = postgresql_facts["parameter_grants"], postgresql_facts["settings"].get("allow_alter_system")
    observe(grants=grants, allow_alter_system=allowed)
    assert not grants, f"{grants[0]['role']} may {grants[0]['privilege']} {grants[0]['name']}"
    assert allowed in (None, "off"), f"allow_alter_system is {allowed}"


@control(
    "PG-NET-02",
    "The socket is for its owner and group only",
    severity="medium",
    sources=("pgdsat 2.6", "PostgreSQL manual 20.3.1: unix_socket_permissions"),
    fix=SITE,
)
def test_socket_is_closed(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    sockets = postgresql_facts["sockets"]
    observe(**sockets)
    assert sockets, "no socket is there: the observation is wrong"
    wrong = [f"{path} ({socket['mode']})" for path, socket in sockets.items() if int(socket["mode"], 8) & 0o007]
    assert not wrong, f"open: {', '.join(wrong)}"


@control(
    "PG-NET-01",
    "The server listens on named addresses, not on every one",
    severity="high",
    sources=("CIS PostgreSQL 17 5.2", "STIG SV-261889"),
    fix=SITE,
)
def test_listen_addresses(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    addresses = [address.strip() for address in postgresql_facts["settings"]["listen_addresses"].split(",")]
    observe(listen_addresses=addresses)
    every = [address for address in addresses if address in ("*", "0.0.0.0", "::")]  # noqa: S104 - compared, not bound
    assert not every, f"listen_addresses holds {', '.join(every)}"


@control(
    "PG-FS-01",
    "The data folder and the configuration belong to postgres and are closed to others",
    severity="high",
    sources=("CIS PostgreSQL 17 1.4", "STIG SV-261904", "DevSec postgres-20"),
    fix=SITE,
)
def test_files_are_closed(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    files = postgresql_facts["files"]
    observe(**files)
    assert len(files) == 4, f"only {', '.join(files)} is there"
    wrong = [
        f"{path} ({file['owner']}:{file['group']} {file['mode']})"
        for path, file in files.items()
        if file["reach"] == "everyone" or int(file["mode"], 8) & 0o020 or file["owner"] not in ("postgres", "root")
    ]
    assert not wrong, f"open: {', '.join(wrong)}"


@control(
    "PG-BAK-01",
    "Write-ahead log is archived, the last attempt worked, and none waits for long",
    severity="high",
    sources=("CIS PostgreSQL 17 7.4", "PostgreSQL manual 27.2: pg_stat_archiver"),
    fix="look at the server's log for archive_command; until it works, pg_wal fills the disk",
)
def test_archiving_works(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    wrong = observe_settings(postgresql_facts, observe, {"archive_mode": ("on", "always")})
    archiver = postgresql_facts["archiver"][0]
    observe(**archiver)
    assert not wrong, "; ".join(wrong)
    assert archiver["archived_count"], "no segment was archived yet"
    assert not archiver["failing"], f"archiving fails since {archiver['last_failed_time']}"
    assert archiver["waiting_seconds"] <= LONGEST_WAIT_SECONDS, (
        f"{archiver['waiting']} segments wait to be archived, the oldest for {archiver['waiting_seconds']} s"
    )
