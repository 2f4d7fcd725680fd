"""pgrls, a linter and prover of row security that is not ours, finds nothing that pgrls.toml does not answer for."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from dbkeep.settings import PostgreSQLSettings

CONFIGURATION = Path(__file__).with_name("pgrls.toml")
WAIVED = {
    (rule, location)
    for rule, settings in tomllib.loads(CONFIGURATION.read_text(encoding="utf-8"))["lint"]["rules"].items()
    for location in settings["allowlist"]
}
SESSION_FUNCTIONS = ("chat.current_user_id", "chat.can_see")
# What it cannot decide, so that tests of ours must: policies whose point is that a user sees rows of others, those of
# chat.users, whose id it does not take for a tenant's, and those of service roles. The rest it proves; a policy that is
# new here has to be thought about.
UNDECIDED = {
    "anon": {"chat.profiles.own_or_visible"},
    "cross-tenant": {
        "chat.context_keys.definer_reads",
        "chat.profiles.own_or_visible",
        "chat.refresh_tokens.auth_finds",
        "chat.relationships.definer_reads",
        "chat.relationships.own_and_requests",
        "chat.users.auth_finds",
        "chat.users.definer_reads",
        "chat.users.keys_finds",
        "chat.users.own_row",
    },
    "write": {
        "chat.profiles.auth_registers",
        "chat.refresh_tokens.auth_issues",
        "chat.refresh_tokens.auth_removes_expired",
        "chat.refresh_tokens.auth_revokes",
        "chat.relationships.definer_adds",
        "chat.relationships.definer_changes",
        "chat.relationships.definer_ends",
        "chat.users.auth_logs_in",
        "chat.users.auth_registers",
        "chat.users.definer_deactivates",
        "chat.users.keys_reencrypts",
    },
    "escalation": set(),
    "reachability": set(),
}


@pytest.fixture(scope="session", params=["plain", "signed"])
def database(request: pytest.FixtureRequest, server: PostgreSQLSettings, signed_server: PostgreSQLSettings) -> str:
    settings = {"plain": server, "signed": signed_server}[request.param]
    return f"postgresql://postgres@/chat?host={quote(str(settings.socket_directory))}&port={settings.port}"


def _pgrls(database: str, *arguments: str) -> Any:
    # Run where no pgrls.toml is, which it would read unasked.
    program = str(Path(sys.executable).with_name("pgrls"))
    command = [program, *arguments, "--database-url", database, "--format", "json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=CONFIGURATION.parent / "row_security"
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_finding_is_waived_with_a_reason_and_every_waiver_has_a_finding(database: str) -> None:
    _, report = _pgrls(database, "lint", "--schemas", "chat,report")
    found = {(finding["rule_id"], finding["location"]) for finding in report["violations"]}
    signed_only = {("SEC014", "chat.current_user_id")}
    assert found - WAIVED == set()
    assert WAIVED - found <= signed_only


def test_with_the_waivers_it_is_clean(database: str) -> None:
    status, report = _pgrls(database, "lint", "--config", str(CONFIGURATION))
    assert (status, report["violations"]) == (0, [])


def _verdicts(database: str, mode: str) -> dict[str, str]:
    """What it proves of each policy. Its status is 1 when a rule is broken for sure."""
    functions = [part for name in SESSION_FUNCTIONS for part in ("--auth-function", name)]
    status, report = _pgrls(database, "verify", "--config", str(CONFIGURATION), "--mode", mode, *functions)
    assert status == 0, report
    return {
        f"{table['table']}.{policy['policy']}": policy["verdict"]
        for table in report["tables"]
        for policy in table["policies"]
    }


@pytest.mark.parametrize("mode", UNDECIDED)
def test_what_it_can_decide_is_proven(database: str, mode: str) -> None:
    verdicts = _verdicts(database, mode)
    assert set(verdicts.values()) <= {"isolated", "unverified"}
    assert {policy for policy, verdict in verdicts.items() if verdict == "unverified"} == UNDECIDED[mode]


def test_a_new_hole_is_found(database: str) -> None:
    """The tests above can fail: a policy for everybody is a finding that nothing waives and no proof."""
    with psycopg.connect(database, autocommit=True) as administrator:
        administrator.execute("CREATE POLICY hole ON chat.settings FOR SELECT TO app_api USING (true)")
        administrator.execute("DROP POLICY floor ON chat.settings")
    try:
        _, report = _pgrls(database, "lint", "--config", str(CONFIGURATION))
        assert "chat.settings.hole" in {finding["location"] for finding in report["violations"]}
        assert _verdicts(database, "cross-tenant")["chat.settings.hole"] == "unverified"
    finally:
        with psycopg.connect(database, autocommit=True) as administrator:
            administrator.execute("DROP POLICY hole ON chat.settings")
            administrator.execute(
                "CREATE POLICY floor ON chat.settings AS RESTRICTIVE FOR ALL TO app_api"
                " USING (EXISTS (SELECT FROM chat.users WHERE is_active))"
                " WITH CHECK (EXISTS (SELECT FROM chat.users WHERE is_active))"
            )
