"""Does row security guard every table of the application, for everyone?"""

from typing import Any

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe

APPLY = "run `dbkeep drift postgresql`, then `dbkeep apply postgresql`; the policies are in sql/policies/"


@control(
    "PG-RLS-01",
    "Row security is enabled and forced on every application table, and has policies",
    severity="critical",
    sources=("CIS PostgreSQL 17 4.7", "PostgreSQL manual 5.9 Row Security Policies"),
    fix=APPLY,
)
def test_enabled_and_forced(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    tables = postgresql_facts["tables"]
    observe(**{table["name"]: {k: table[k] for k in ("enabled", "forced", "policies")} for table in tables})
    expected = {"users", "profiles", "relationships", "settings", "refresh_tokens"}
    missing = expected - {table["name"] for table in tables}
    assert not missing, f"the schema chat lacks {', '.join(sorted(missing))}"
    wrong = [
        f"{table['name']} ({', '.join(word for word in ('enabled', 'forced', 'policies') if not table[word])} missing)"
        for table in tables
        if not (table["enabled"] and table["forced"] and table["policies"])
    ]
    assert not wrong, f"not guarded: {', '.join(wrong)}"


@control(
    "PG-RLS-03",
    "Every policy names its roles",
    severity="high",
    sources=("PostgreSQL manual: CREATE POLICY",),
    fix=APPLY,
)
def test_policies_name_roles(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    public = postgresql_facts["policies_for_public"]
    observe(policies=sum(table["policies"] for table in postgresql_facts["tables"]), for_public=public)
    assert not public, "for PUBLIC: " + ", ".join(f"{p['name']} on {p['relation']}" for p in public)


@control(
    "PG-RLS-04",
    "Every table that the API uses has a restrictive floor: a user is set, exists and is active",
    severity="critical",
    sources=("CIS PostgreSQL 17 4.7", "PostgreSQL manual: CREATE POLICY"),
    fix=APPLY,
)
def test_restrictive_floor(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    tables = {table["name"]: table["floor"] for table in postgresql_facts["tables"] if table["used_by_api"]}
    observe(**tables)
    assert tables, "app_api may use no table at all"
    assert all(tables.values()), f"no floor on {', '.join(name for name, floor in tables.items() if not floor)}"


@control(
    "PG-RLS-05",
    "No view, materialised view or foreign table lets an application role look past row security",
    severity="critical",
    sources=("PostgreSQL manual: CREATE VIEW, security_invoker", "splinter 0010", "splinter 0016"),
    fix="drop the view, revoke it from the role, or create it WITH (security_invoker = true)",
)
def test_views_respect_row_security(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    views = postgresql_facts["views"]
    reachable = [view for view in views if (view["for_api"] or view["for_auth"]) and not view["invoker"]]
    bypassing = [view for view in views if view["owner_bypasses"] and view["name"].startswith(("chat.", "report."))]
    observe(views=[view["name"] for view in views], reachable=reachable, owned_past_row_security=bypassing)
    assert not reachable, f"app roles read {', '.join(view['name'] for view in reachable)}"
    assert not bypassing, f"the owner bypasses row security: {', '.join(view['name'] for view in bypassing)}"


@control(
    "PG-PRIV-10",
    "The application's tables belong to a role that cannot log on",
    severity="high",
    sources=("STIG SV-261884",),
    fix=APPLY,
)
def test_owner_cannot_log_on(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    login = {role["name"]: role["login"] for role in postgresql_facts["roles"]}
    owners = {table["name"]: table["owner"] for table in postgresql_facts["tables"]}
    observe(owners=owners)
    assert owners, "the schema chat has no table"
    wrong = [f"{table} ({owner})" for table, owner in owners.items() if login[owner]]
    assert not wrong, f"owned by a role that logs on: {', '.join(wrong)}"
