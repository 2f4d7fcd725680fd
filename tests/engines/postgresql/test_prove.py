"""The prover on a real server: silent on the declared state, and loud on holes made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbkeep.cli import cli
from dbkeep.postgresql import Declared
from dbkeep.postgresql.prove import budget as budgets
from dbkeep.postgresql.prove import declared_rights, matrix, registry, server
from dbkeep.postgresql.prove.seed import NAMES, TABLES, Seed
from dbkeep.postgresql.prove.server import Server
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.budget import Budget
from dbkeep.prove.probe import CannotTell, Finding, Probe, require, run

from ..complaints import complaints

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def attacked(declared: Declared) -> Iterator[Server]:
    with server.start(declared) as made:
        yield made


@pytest.fixture
def world(attacked: Server) -> Iterator[World]:
    with attacked.world() as copy:
        yield copy


@pytest.fixture(scope="module")
def budget(declared: Declared) -> Budget:
    return budgets.read(ROOT, declared, registry.ALL)


def test_the_declared_state_gives_no_finding(world: World, budget: Budget) -> None:
    results = list(run(world, registry.ALL))
    assert complaints(results, budget) == []
    assert budget.unused(results) == ()
    assert len([probe for probe in registry.ALL if probe.id.startswith("P")]) >= 49


def test_the_matrix_agrees_with_itself(world: World) -> None:
    cells = list(matrix.observe(world))
    assert list(matrix.findings(cells)) == []
    seen = {(cell.role, cell.relation, cell.privilege): cell for cell in cells}
    assert seen["app_api", "chat.users", "SELECT"].observed == frozenset({
        "id", "username", "created_at", "updated_at", "last_login_at", "is_active", "is_verified",
    })  # fmt: skip
    assert seen["app_auth", "chat.settings", "SELECT"].observed == frozenset()
    assert seen["chat_owner", "chat.users", "TRUNCATE"].observed == declared_rights.WHOLE


@pytest.mark.parametrize(
    ("hole", "probes", "role"),
    [
        ("DROP POLICY floor ON chat.profiles", "P03 P11", "app_api"),
        ("CREATE VIEW chat.v AS SELECT * FROM chat.users; GRANT SELECT ON chat.v TO app_api", "P01 P14", "app_api"),
        ("ALTER TABLE chat.settings NO FORCE ROW LEVEL SECURITY", "P20", "chat_migrator as chat_owner"),
        ("ALTER TABLE chat.settings DISABLE ROW LEVEL SECURITY", "P01 P04 P06 P08 P13 P22", "app_api"),
        ("GRANT SELECT (password_hash) ON chat.users TO app_api", "P18", "app_api"),
        ("GRANT REFERENCES ON chat.users TO app_auth", "P30", "app_auth"),
        ("ALTER FUNCTION chat.can_see(uuid) RESET search_path", "C04", "chat_definer"),
        ("GRANT EXECUTE ON FUNCTION chat.find_user TO app_auth", "P15", "app_auth"),
        ("GRANT CREATE ON SCHEMA chat TO app_auth", "P30", "app_auth"),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE chat_owner IN SCHEMA chat GRANT SELECT ON TABLES TO app_api",
            "P16 P17",
            "app_api",
        ),
        (
            ("DROP POLICY change_own ON chat.settings; CREATE POLICY change_own ON chat.settings FOR UPDATE TO app_api"
            " USING (user_id = (SELECT chat.current_user_id())) WITH CHECK (true)"),
            "P25",
            "app_api",
        ),
        ("CREATE POLICY p ON chat.settings FOR DELETE TO app_api USING (true)", "P26", "app_api"),
        ("CREATE POLICY p ON chat.settings FOR INSERT TO app_api WITH CHECK (true)", "P24 P32", "app_api"),
        ("CREATE POLICY p ON chat.settings FOR SELECT TO app_api USING (true)", "P11 P12 P09 P21", "app_api"),
        (
            ("DROP POLICY auth_revokes ON chat.refresh_tokens;"
            " CREATE POLICY auth_revokes ON chat.refresh_tokens FOR UPDATE TO app_auth USING (true)"),
            "P31",
            "app_auth",
        ),
        (
            ("CREATE OR REPLACE FUNCTION chat.can_see(other uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER"
            " SET search_path = '' AS 'SELECT EXISTS (SELECT FROM chat.users WHERE id = other)'"),
            "P15 P33",
            "app_api",
        ),
    ],
)  # fmt: skip
def test_a_hole_is_found(world: World, hole: str, probes: str, role: str) -> None:
    world.superuser().execute(hole.encode())
    for result in run(world, registry.select(probes.split())):
        assert role in {finding.role for finding in result.findings}, f"{result.probe.id}: {result}"


def test_the_matrix_finds_what_is_granted_and_not_declared(world: World) -> None:
    world.superuser().execute("GRANT SELECT (email), UPDATE (username) ON chat.users TO app_api")
    world.superuser().execute("REVOKE SELECT ON report.user_totals FROM chat_analytics")
    assert [str(finding).strip() for finding in matrix.findings(list(matrix.observe(world)))] == [
        "app_api SELECT chat.users: granted, not declared: email",
        "app_api UPDATE chat.users: granted, not declared: username",
        "chat_analytics SELECT report.user_totals: declared, not granted: is_active, is_verified, users",
    ]


def test_a_probe_that_cannot_try_does_not_pass(world: World) -> None:
    world.superuser().execute("DROP POLICY own ON chat.settings")
    results = list(run(world, registry.select(["P01", "P11", "P13", "P22"])))
    assert all(result.problem and not result.passed for result in results)
    with pytest.raises(CannotTell, match="no row"):
        require([], "there is no row")


def test_a_world_without_a_superuser_is_tried_and_left_as_it_was(world: World, budget: Budget) -> None:
    """What runs on a live server: the people of a seed come and go, and nothing else changes."""
    before = _contents(world)
    seed = Seed()
    seed.insert(world.superuser())
    with World(world.declared, seed, world.database, world.keywords, signer=world.signer) as live:
        results = list(run(live, [probe for probe in registry.ALL if probe.live]))
        cells = list(matrix.observe(live))
    # The people of the copy itself are other people here: their profiles are for everyone.
    assert complaints(results, budget) == []
    assert list(matrix.findings(cells)) == []
    assert {cell.role for cell in cells if cell.observed is None} >= {"chat_owner", "chat_definer"}
    world.superuser().execute("DELETE FROM chat.users WHERE id = ANY(%s)", [[p.id for p in seed.people.values()]])
    assert _contents(world) == before


def _contents(world: World) -> dict[str, list[tuple[object, ...]]]:
    return {
        table: world.superuser().execute(f"SELECT * FROM {table} ORDER BY id".encode()).fetchall() for table in TABLES
    }


def test_people_are_removed_and_nobody_else(world: World) -> None:
    connection = world.superuser()
    connection.execute(
        "INSERT INTO chat.users (id, email, email_index, username, password_hash)"
        " VALUES (gen_random_uuid(), 'e1:x', sha256('x'), 'dbkeep-probe-not', '$argon2id$x')"
    )
    assert Seed.remove(connection) == len(NAMES)
    assert connection.execute("SELECT username FROM chat.users").fetchall() == [("dbkeep-probe-not",)]


def test_a_seed_follows_from_its_mark() -> None:
    one, other = Seed("a" * 32), Seed("a" * 32)
    assert (one.people, one.ids("chat.settings")) == (other.people, other.ids("chat.settings"))
    assert one.people["anna"].id != Seed().people["anna"].id


def test_findings_of_a_failing_probe_are_kept(world: World) -> None:
    def ask(_: World) -> Iterator[Finding]:
        yield Finding("app_api", "chat.users", "seen")
        require(False, "the rest could not be tried")

    (result,) = run(world, [Probe("P00", "A probe", "read", ("none",), live=True, slow=False, ask=ask)])
    assert (str(result.findings[0]), result.problem) == (
        "P00 app_api chat.users: seen",
        "the rest could not be tried",
    )


def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["prove", "postgresql", "--probes", "P01,P10", "--json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert (ended.value.code, document["passed"]) == (0, True)
    assert [probe["id"] for probe in document["probes"]] == ["P01", "P10"]
    assert document["leak_budget"]["forged_context"] == {"declared": ["app_api"], "observed": ["app_api"]}
    assert document["not_mutated"] == "not asked for"
