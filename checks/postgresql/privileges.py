"""Does every role of PostgreSQL hold no more than it needs?"""

from typing import Any

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe

APPLY = "run `dbkeep drift postgresql`, then `dbkeep apply postgresql --allow-destructive`"


def words(entries: list[dict[str, Any]]) -> str:
    return ", ".join(" ".join(str(value) for value in entry.values()) for entry in entries)


@control(
    "PG-PRIV-01",
    "The only superuser is postgres",
    severity="critical",
    sources=("CIS PostgreSQL 17 4.3", "DevSec postgres-08", "STIG SV-261924"),
    fix="ALTER ROLE name NOSUPERUSER, after asking who made it one",
)
def test_superusers(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    superusers = [role["name"] for role in postgresql_facts["roles"] if role["superuser"]]
    observe(superusers=superusers)
    assert superusers == ["postgres"], f"superusers are {', '.join(superusers)}"


@control(
    "PG-PRIV-02",
    "No other role may create roles or databases, replicate, or bypass row security, but chat_backup",
    severity="high",
    sources=("DevSec postgres-08", "STIG SV-261885"),
    fix=APPLY,
)
def test_attributes(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    attributes = ("createrole", "createdb", "replication", "bypassrls")
    held = {
        role["name"]: [name for name in attributes if role[name]]
        for role in postgresql_facts["roles"]
        if not role["superuser"]
    }
    observe(**held)
    assert held, "there is no role but the superuser"
    surplus = [
        f"{name}: {', '.join(a)}"
        for name, a in held.items()
        if set(a) - ({"bypassrls"} if name == "chat_backup" else set())
    ]
    assert not surplus, "; ".join(surplus)


@control(
    "PG-PRIV-03",
    "No application role reaches, by any path, a role that owns, bypasses or runs programs",
    severity="critical",
    sources=("CIS PostgreSQL 17 4.9", "STIG SV-261888"),
    fix=APPLY,
)
def test_reachable_roles(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    declared = {
        ("chat_migrator", "chat_owner"),
        ("chat_monitor", "pg_monitor"),
        ("chat_audit", "pg_monitor"),
    }
    statistics = {"pg_read_all_settings", "pg_read_all_stats", "pg_stat_scan_tables"}  # what pg_monitor is made of
    reached = [(entry["login"], entry["role"]) for entry in postgresql_facts["reachable"]]
    observe(reachable=[f"{login} -> {role}" for login, role in reached])
    surplus = [
        f"{login} -> {role}" for login, role in reached if (login, role) not in declared and role not in statistics
    ]
    assert not surplus, f"not declared: {', '.join(surplus)}"


@control(
    "PG-PRIV-04",
    "PUBLIC may neither connect to a database nor create or read anything in it",
    severity="high",
    sources=("CIS PostgreSQL 17 4.10", "DevSec postgres-17"),
    fix=APPLY,
)
def test_public_is_stripped(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    kinds = ("public_on_databases", "public_on_schemas", "public_on_relations")
    found = {kind: postgresql_facts[kind] for kind in kinds}
    observe(**found)
    open_kinds = [f"{kind.removeprefix('public_on_')}: {words(entries)}" for kind, entries in found.items() if entries]
    assert not open_kinds, f"PUBLIC holds {'; '.join(open_kinds)}"


@control(
    "PG-PRIV-05",
    "PUBLIC may not call the application's functions",
    severity="high",
    sources=("CIS PostgreSQL 17 4.5", "PostgreSQL manual 5.8 Privileges"),
    fix=APPLY,
)
def test_functions_are_not_public(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    functions = {function["name"]: function["for_public"] for function in postgresql_facts["functions"]}
    observe(for_public=functions)
    assert functions, "the schema chat has no function"
    assert not any(functions.values()), f"open to PUBLIC: {', '.join(n for n, public in functions.items() if public)}"


@control(
    "PG-PRIV-07",
    "Nobody but the owner holds a privilege that ignores row security",
    severity="high",
    sources=("CIS PostgreSQL 17 4.6", "PostgreSQL manual 5.9 Row Security Policies"),
    fix=APPLY,
)
def test_no_row_blind_privilege(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    held = postgresql_facts["row_blind_privileges"]
    observe(held=held, tables=len(postgresql_facts["tables"]))
    assert not held, f"granted: {words(held)}"


@control(
    "PG-PRIV-12",
    "SECURITY DEFINER functions belong to a role without logon or superuser rights, with a fixed search_path",
    severity="high",
    sources=("STIG SV-261916", "DevSec postgres-19", "PostgreSQL manual: Writing SECURITY DEFINER Functions Safely"),
    fix=APPLY,
)
def test_definer_functions(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    definers = [function for function in postgresql_facts["functions"] if function["definer"]]
    observe(definers=definers)
    wrong = []
    for function in definers:
        if function["owner_super"] or function["owner_login"]:
            wrong.append(f"{function['name']} belongs to {function['owner']}")
        pinned = [entry for entry in function["config"] if entry.startswith("search_path=")]
        if not pinned or not (pinned[0].rstrip('"') == "search_path=" or pinned[0].endswith("pg_temp")):
            wrong.append(f"{function['name']} has {pinned[0] if pinned else 'no search_path of its own'}")
    assert not wrong, "; ".join(wrong)


@control(
    "PG-AUTH-06",
    "Every role that logs on has a connection limit",
    severity="medium",
    sources=("CIS PostgreSQL 17 5.5", "STIG SV-261857"),
    fix=APPLY,
)
def test_connection_limits(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    limits = {r["name"]: r["connection_limit"] for r in postgresql_facts["roles"] if r["login"] and not r["superuser"]}
    observe(**limits)
    assert limits, "no role but the superuser can log on"
    assert -1 not in limits.values(), f"no limit: {', '.join(name for name, limit in limits.items() if limit == -1)}"
