"""Does each role reach what it needs, and nothing that belongs to another role?"""

from typing import Any, LiteralString
from uuid import uuid4

import psycopg

from dbkeep.checks.access import Access
from dbkeep.checks.attempts import Attempt, attempt
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

FIX = "run `dbkeep drift postgresql` and then `dbkeep apply postgresql`: a grant is wider than sql/roles.yml"


def try_all(connection: psycopg.Connection[Any], statements: dict[str, LiteralString]) -> dict[str, Attempt]:
    return {name: attempt(connection, statement) for name, statement in statements.items()}


def allowed(attempts: dict[str, Attempt]) -> list[str]:
    return [f"{name} ({result})" for name, result in attempts.items() if not result.is_denied]


@control(
    "ISO-SECRET-01",
    "The API's role cannot read password hashes, addresses or tokens",
    severity="critical",
    sources=("splinter 0023", "PostgreSQL manual 5.8 Privileges"),
    fix=FIX,
)
def test_secret_columns(access: Access, target: Host, observe: Observe) -> None:
    statements: dict[str, LiteralString] = {
        "password_hash": "SELECT password_hash FROM chat.users LIMIT 1",
        "email": "SELECT email FROM chat.users LIMIT 1",
        "email_index": "SELECT email_index FROM chat.users LIMIT 1",
        "every column": "SELECT * FROM chat.users LIMIT 1",
        "whole row": "SELECT u FROM chat.users u LIMIT 1",
        "refresh tokens": "SELECT FROM chat.refresh_tokens LIMIT 1",
        "revoke tokens": "UPDATE chat.refresh_tokens SET revoked = true",
        "password verifiers": "SELECT rolpassword FROM pg_authid LIMIT 1",
    }
    with access.postgresql(target, "app_api") as connection:
        readable = attempt(connection, "SELECT id, username FROM chat.users LIMIT 1")
        tried = try_all(connection, statements)
    observe(columns_of_its_own=str(readable), tried={name: str(result) for name, result in tried.items()})
    assert readable.sqlstate is None, (
        f"app_api cannot read chat.users at all ({readable}): the probe would prove nothing"
    )
    assert not allowed(tried), f"app_api may: {', '.join(allowed(tried))}"


@control(
    "ISO-ROLE-01",
    "No application role can become another role",
    severity="critical",
    sources=("STIG SV-261888", "CIS PostgreSQL 17 4.9"),
    fix="run `dbkeep drift postgresql`: a membership was granted that sql/roles.yml does not declare",
)
def test_set_role(access: Access, target: Host, postgresql_facts: dict[str, Any], observe: Observe) -> None:
    others = [role["name"] for role in postgresql_facts["roles"]]
    became = []
    for role in ("app_api", "app_auth", "app_keys", "chat_analytics", "chat_monitor", "chat_backup"):
        with access.postgresql(target, role) as connection:
            for other in (name for name in others if name != role):
                statement = psycopg.sql.SQL("SET LOCAL ROLE {}").format(psycopg.sql.Identifier(other))
                if not _is_refused(connection, statement):
                    became.append(f"{role} became {other}")
    observe(roles=others, became=became)
    assert len(others) > 5, f"the server has only the roles {', '.join(others)}"
    assert not became, "; ".join(became)


def _is_refused(connection: psycopg.Connection[Any], statement: psycopg.sql.Composed) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


@control(
    "ISO-AUTH-01",
    "The log-in role reaches accounts and tokens only, and deletes no account",
    severity="high",
    sources=("dbkeep design: Only app_auth can see password hashes and tokens", "PostgreSQL manual 5.8 Privileges"),
    fix=FIX,
)
def test_log_in_role(access: Access, target: Host, observe: Observe) -> None:
    statements: dict[str, LiteralString] = {
        "read settings": "SELECT FROM chat.settings LIMIT 1",
        "read relationships": "SELECT FROM chat.relationships LIMIT 1",
        "read profiles": "SELECT bio FROM chat.profiles LIMIT 1",
        "delete users": "DELETE FROM chat.users WHERE false",
        "rename users": "UPDATE chat.users SET username = username WHERE false",
        "empty users": "TRUNCATE chat.users",
        "read reports": "SELECT FROM report.user_totals",
        "create a table": "CREATE TABLE chat.dbkeep_probe ()",
        "create a temporary table": "CREATE TEMPORARY TABLE dbkeep_probe ()",
    }
    with access.postgresql(target, "app_auth") as connection:
        needed = attempt(connection, "SELECT id, password_hash, is_active FROM chat.users LIMIT 1")
        tokens = attempt(connection, "SELECT FROM chat.refresh_tokens LIMIT 1")
        tried = try_all(connection, statements)
    observe(log_in=str(needed), tokens=str(tokens), tried={name: str(result) for name, result in tried.items()})
    assert needed.sqlstate is None, f"app_auth cannot read what a log-in needs ({needed})"
    assert tokens.sqlstate is None, f"app_auth cannot read refresh tokens ({tokens})"
    assert not allowed(tried), f"app_auth may: {', '.join(allowed(tried))}"


@control(
    "ISO-KEYS-01",
    "The role that re-encrypts reaches addresses only",
    severity="high",
    sources=("dbkeep design: least privilege", "PostgreSQL manual 5.8 Privileges"),
    fix=FIX,
)
def test_key_role(access: Access, target: Host, observe: Observe) -> None:
    statements: dict[str, LiteralString] = {
        "read password hashes": "SELECT password_hash FROM chat.users LIMIT 1",
        "read user names": "SELECT username FROM chat.users LIMIT 1",
        "read refresh tokens": "SELECT FROM chat.refresh_tokens LIMIT 1",
        "read profiles": "SELECT FROM chat.profiles LIMIT 1",
        "activate users": "UPDATE chat.users SET is_active = true WHERE false",
        "delete users": "DELETE FROM chat.users WHERE false",
        "empty users": "TRUNCATE chat.users",
        "create a temporary table": "CREATE TEMPORARY TABLE dbkeep_probe ()",
    }
    with access.postgresql(target, "app_keys") as connection:
        needed = attempt(connection, "SELECT id, email, email_index FROM chat.users LIMIT 1")
        tried = try_all(connection, statements)
        tried["register users"] = attempt(connection, "INSERT INTO chat.users (id) VALUES (%s)", (uuid4(),))
    observe(addresses=str(needed), tried={name: str(result) for name, result in tried.items()})
    assert needed.sqlstate is None, f"app_keys cannot read what it re-encrypts ({needed})"
    assert not allowed(tried), f"app_keys may: {', '.join(allowed(tried))}"


@control(
    "ISO-ANALYTICS-01",
    "The analytics role reads report views and no table",
    severity="high",
    sources=("PostgreSQL manual 5.8 Privileges",),
    fix=FIX,
)
def test_analytics_role(access: Access, target: Host, observe: Observe) -> None:
    statements: dict[str, LiteralString] = {
        "users": "SELECT FROM chat.users LIMIT 1",
        "profiles": "SELECT FROM chat.profiles LIMIT 1",
        "relationships": "SELECT FROM chat.relationships LIMIT 1",
        "settings": "SELECT FROM chat.settings LIMIT 1",
        "refresh tokens": "SELECT FROM chat.refresh_tokens LIMIT 1",
    }
    with access.postgresql(target, "chat_analytics") as connection:
        views = attempt(connection, "SELECT FROM report.user_totals")
        tried = try_all(connection, statements)
    observe(report_view=str(views), tried={name: str(result) for name, result in tried.items()})
    assert views.sqlstate is None, f"chat_analytics cannot read report.user_totals ({views})"
    assert not allowed(tried), f"chat_analytics may read: {', '.join(allowed(tried))}"


@control(
    "ISO-DDL-01",
    "The API's role cannot define, empty, lock or run anything",
    severity="critical",
    sources=("CIS PostgreSQL 17 4.6", "STIG SV-261884", "STIG SV-261888"),
    fix=FIX,
)
def test_definitions(access: Access, target: Host, observe: Observe) -> None:
    statements: dict[str, LiteralString] = {
        "truncate": "TRUNCATE chat.settings",
        "add a policy": "CREATE POLICY dbkeep_probe ON chat.users USING (true)",
        "disable row security": "ALTER TABLE chat.users DISABLE ROW LEVEL SECURITY",
        "create a table": "CREATE TABLE chat.dbkeep_probe ()",
        "create a function": "CREATE FUNCTION chat.dbkeep_probe() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "create a temporary table": "CREATE TEMPORARY TABLE dbkeep_probe ()",
        "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
        "read a file": "SELECT pg_read_file('/etc/hostname')",
        "write a large object": "SELECT lo_create(0)",
        "load from a file": "COPY chat.settings FROM '/etc/hostname'",
        "change the server": "SELECT pg_reload_conf()",
    }
    with access.postgresql(target, "app_api") as connection:
        tried = try_all(connection, statements)
        forged = attempt(connection, "INSERT INTO chat.users (id) VALUES (%s)", (uuid4(),))
    tried["register a user"] = forged
    observe(**{name: str(result) for name, result in tried.items()})
    assert not allowed(tried), f"app_api may: {', '.join(allowed(tried))}"
