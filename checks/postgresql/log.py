"""Does PostgreSQL's log say what happened, to those who may know, without the data itself?"""

from typing import Any

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.checks.server_settings import observe_settings

SITE = (
    "look at `dbkeep plan postgresql`, then run `dbkeep apply postgresql`; what needs a restart waits for"
    " playbooks/site.yml -e postgresql_restart_allowed=true"
)


@control(
    "PG-LOG-01",
    "The log is there, and only its owner and group read it",
    severity="medium",
    sources=("CIS PostgreSQL 17 3.1.6", "STIG SV-261875"),
    fix="chmod o= on the named file; Debian's logrotate keeps the mode",
)
def test_log_is_closed(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    logs = postgresql_facts["logs"]
    observe(**logs)
    assert logs, "no log is there: nothing that happens is recorded"
    wrong = [f"{path} ({file['mode']})" for path, file in logs.items() if int(file["mode"], 8) & 0o027]
    assert not wrong, f"open: {', '.join(wrong)}"


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
    "PG-LOG-06",
    "pgaudit is loaded and records roles, definitions and writes, without parameters",
    severity="medium",
    sources=("CIS PostgreSQL 17 3.2", "STIG SV-261861"),
    fix=SITE,
)
def test_audit_is_recorded(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    wrong = observe_settings(postgresql_facts, observe, {"pgaudit.log_parameter": ("off",)})
    libraries, classes = (
        [word.strip() for word in (postgresql_facts["settings"].get(name) or "").split(",")]
        for name in ("shared_preload_libraries", "pgaudit.log")
    )
    observe(libraries=libraries, classes=classes)
    if "pgaudit" not in libraries:
        wrong.append("pgaudit is not loaded")
    if "all" not in classes:
        wrong += [f"pgaudit.log lacks {name}" for name in ("role", "ddl", "write") if name not in classes]
    assert not wrong, "; ".join(wrong)


@control(
    "PG-LOG-07",
    "The log is in UTC and asks no name server who a client is",
    severity="low",
    sources=("CIS PostgreSQL 17 3.1.22", "CIS PostgreSQL 17 3.1.26"),
    fix=SITE,
)
def test_log_is_in_utc(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    wanted = {"log_timezone": ("UTC", "Etc/UTC"), "log_hostname": ("off",)}
    wrong = observe_settings(postgresql_facts, observe, wanted)
    assert not wrong, "; ".join(wrong)


@control(
    "PG-LOG-08",
    "Replication commands, lock waits and checkpoints are logged",
    severity="low",
    sources=("CIS PostgreSQL 17 7.2", "PostgreSQL manual 20.8.3 What to Log"),
    fix=SITE,
)
def test_waits_are_logged(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    names = ("log_replication_commands", "log_lock_waits", "log_checkpoints")
    wrong = observe_settings(postgresql_facts, observe, dict.fromkeys(names, ("on",)))
    assert not wrong, "; ".join(wrong)


@control(
    "PG-LOG-10",
    "The log is rotated",
    severity="medium",
    sources=("CIS PostgreSQL 17 3.1.7",),
    fix="run playbooks/site.yml (role postgresql); apt-get install --reinstall postgresql-common brings the rule back",
)
def test_log_is_rotated(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    found = postgresql_facts["log_rotation"]
    observe(**found)
    assert len(found) == 2, f"of logrotate and its rule, there is {', '.join(found) or 'neither'}"
