"""Is the PostgreSQL server set up so that data stays whole, private and as declared?"""

from collections.abc import Callable
from typing import Any

from dbkeep.checks.control import control, not_applicable
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment, Host

SITE = "run playbooks/site.yml (role postgresql); a setting that needs a restart is restarted only when that is allowed"


def observe_settings(facts: dict[str, Any], observe: Observe, wanted: dict[str, tuple[str, ...]]) -> list[str]:
    """Record the named settings and return those that have another value than the wanted ones."""
    found = {name: facts["settings"].get(name) for name in wanted}
    observe(**{name.replace(".", "_"): value for name, value in found.items()})
    return [
        f"{name} is {found[name]}, not {' or '.join(values)}"
        for name, values in wanted.items()
        if found[name] not in values
    ]


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
    "PG-LOG-05",
    "The log keeps no values: neither parameters nor whole statements by duration or error",
    severity="high",
    sources=("CIS PostgreSQL 17 3.1.16", "PostgreSQL manual 20.8.3 What to Log"),
    fix=SITE,
)
def test_log_keeps_no_values(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    wanted = {
        "log_parameter_max_length": ("0",),
        "log_parameter_max_length_on_error": ("0",),
        "log_statement": ("none", "ddl"),
        "debug_print_parse": ("off",),
        "debug_print_rewritten": ("off",),
        "debug_print_plan": ("off",),
    }
    wrong = observe_settings(postgresql_facts, observe, wanted)
    assert not wrong, "; ".join(wrong)


@control(
    "PG-LOG-02",
    "Logons, logoffs and changes of definitions are logged, with who and from where",
    severity="medium",
    sources=("CIS PostgreSQL 17 3.1.20", "CIS PostgreSQL 17 3.1.24", "STIG SV-261956"),
    fix=SITE,
)
def test_logons_are_logged(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    settings = postgresql_facts["settings"]
    wrong = observe_settings(
        postgresql_facts, observe, {"log_disconnections": ("on",), "log_statement": ("ddl", "mod", "all")}
    )
    observe(log_connections=settings["log_connections"], log_line_prefix=settings["log_line_prefix"])
    if settings["log_connections"] in ("off", ""):
        wrong.append("log_connections is off")
    wrong += [f"log_line_prefix lacks {part}" for part in ("%p", "%u", "%d") if part not in settings["log_line_prefix"]]
    if not {"%h", "%r"}.intersection(part for part in ("%h", "%r") if part in settings["log_line_prefix"]):
        wrong.append("log_line_prefix lacks %h")
    assert not wrong, "; ".join(wrong)


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
    "Write-ahead log is archived, and the last attempt worked",
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
