"""Attempts on a real PostgreSQL: what they see, what they call a refusal, and that nothing of them stays."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from dbkeep import postgresql
from dbkeep.checks.attempts import Step, attempt
from dbkeep.checks.facts import postgresql as facts
from dbkeep.postgresql.connect import connect
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

ROOT = Path(__file__).parents[3]
ADA, BARBARA = uuid4(), uuid4()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQLSettings]:
    """A server as declared, with two active users and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-checks-"))
    folder.chmod(0o711)
    declared = postgresql.read_declared(ROOT)
    secrets = {name: f"password of {name} for a test" for name in postgresql.users(declared)}
    try:
        with sandbox.start(folder / "server") as settings:
            postgresql.apply(settings, declared, secrets)
            with connect(settings) as connection:
                for user, name in ((ADA, "ada"), (BARBARA, "barbara")):
                    connection.execute(
                        "INSERT INTO chat.users (id, email, email_index, username, password_hash)"
                        " VALUES (%s, 'envelope', sha256(%s), %s, '$argon2id$test')",
                        (user, name.encode(), name),
                    )
                connection.commit()
            yield settings
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def api(server: PostgreSQLSettings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(
        host=str(server.socket_directory), port=server.port, user="app_api", dbname="chat"
    ) as connection:
        yield connection


def setting_of(user: object) -> Step:
    statement = "INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, 'dbkeep.probe', '1')"
    return (str(user), statement, (uuid4(), user))


def test_a_step_of_another_user_makes_rows_that_only_its_author_sees(api: psycopg.Connection[Any]) -> None:
    count = "SELECT FROM chat.settings"
    written = [setting_of(BARBARA)]
    assert attempt(api, count, user_id=str(BARBARA), after=written).rows == 1
    assert attempt(api, count, user_id=str(ADA), after=written).rows == 0
    assert attempt(api, count, after=written).rows == 0


def test_nothing_of_an_attempt_stays(api: psycopg.Connection[Any]) -> None:
    own = setting_of(ADA)
    assert attempt(api, own[1], own[2], user_id=str(ADA)).rows == 1
    assert attempt(api, "SELECT FROM chat.settings", user_id=str(ADA)).rows == 0
    row = api.execute("SELECT current_setting('app.user_id', true)").fetchone()
    assert row is not None
    assert not row[0]


@pytest.mark.parametrize(
    ("statement", "said", "denied", "harmless"),
    [
        ("SELECT password_hash FROM chat.users", "denied", True, True),
        ("UPDATE chat.settings SET value = '1'", "0 rows", False, True),
        ("SELECT FROM chat.users", "1 rows", False, False),
        ("SELECT 1/0", "error 22012", False, False),
        ("SELECT FROM chat.no_such_table", "error 42P01", False, False),
    ],
)
def test_only_a_want_of_rights_is_a_denial(
    api: psycopg.Connection[Any], statement: Any, said: str, denied: bool, harmless: bool
) -> None:
    result = attempt(api, statement, user_id=str(ADA))
    assert (str(result), result.is_denied, result.is_harmless) == (said, denied, harmless)


def test_a_lost_connection_is_no_refusal(server: PostgreSQLSettings, api: psycopg.Connection[Any]) -> None:
    with connect(server) as administrator:
        administrator.execute("SELECT pg_terminate_backend(%s)", (api.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        attempt(api, "SELECT FROM chat.users")
    api.close()


def test_facts_describe_a_server_as_declared(server: PostgreSQLSettings) -> None:
    with connect(server) as connection:
        found = facts.describe(connection)
        people = facts.find_people(connection)
    assert found["settings"]["data_checksums"] == "on"
    tables = {table["name"]: table for table in found["tables"]}
    assert tables.keys() == {"users", "profiles", "relationships", "settings", "refresh_tokens", "context_keys"}
    assert all(table["enabled"] and table["forced"] and table["policies"] for table in tables.values())
    without_users = {"refresh_tokens", "context_keys"}
    assert {name for name, table in tables.items() if table["floor"]} == tables.keys() - without_users
    assert not tables["refresh_tokens"]["used_by_api"]
    assert found["public_on_databases"] == found["public_on_relations"] == found["policies_for_public"] == []
    assert not any(function["for_public"] for function in found["functions"])
    # pg_stat_statements grants its views to PUBLIC, in a schema that no application role may enter.
    assert "public.pg_stat_statements" in {view["name"] for view in found["views"]}
    assert not any(view["for_api"] or view["for_auth"] for view in found["views"])
    assert people is not None
    assert {people["id"], people["other_id"]} == {str(ADA), str(BARBARA)}


def test_facts_name_what_was_opened_by_hand(server: PostgreSQLSettings) -> None:
    with connect(server) as connection, connection.transaction(force_rollback=True):
        for statement in (
            "ALTER TABLE chat.profiles NO FORCE ROW LEVEL SECURITY",
            "GRANT CONNECT ON DATABASE chat TO PUBLIC",
            "GRANT TRUNCATE ON chat.settings TO app_api",
            "CREATE POLICY probe ON chat.settings TO PUBLIC USING (true)",
            "CREATE VIEW chat.probe AS SELECT * FROM chat.users; GRANT SELECT ON chat.probe TO app_api",
            "GRANT chat_owner TO app_api",
            "ALTER ROLE app_auth CONNECTION LIMIT -1",
        ):
            connection.execute(statement)
        found = facts.describe(connection)
    assert [table["name"] for table in found["tables"] if not table["forced"]] == ["profiles"]
    assert found["public_on_databases"] == [{"name": "chat", "privilege": "CONNECT"}]
    assert found["row_blind_privileges"] == [{"name": "chat.settings", "role": "app_api", "privilege": "TRUNCATE"}]
    assert found["policies_for_public"] == [{"relation": "chat.settings", "name": "probe"}]
    # A member of the owner may enter the schema of pg_stat_statements too.
    statistics = {"public.pg_stat_statements", "public.pg_stat_statements_info"}
    assert {view["name"] for view in found["views"] if view["for_api"]} == {"chat.probe", *statistics}
    assert {"login": "app_api", "role": "chat_owner"} in found["reachable"]
    assert [role["name"] for role in found["roles"] if role["login"] and role["connection_limit"] == -1] == [
        "app_auth",
        "postgres",
    ]
