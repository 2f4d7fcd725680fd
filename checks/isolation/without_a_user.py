"""Does the API's role see nothing while no user is set?"""

from typing import Any, LiteralString

from dbkeep.checks.access import Access
from dbkeep.checks.attempts import INVALID_TEXT, act_for, attempt
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

TABLES: dict[str, LiteralString] = {
    "users": "SELECT FROM chat.users LIMIT 100",
    "profiles": "SELECT FROM chat.profiles LIMIT 100",
    "relationships": "SELECT FROM chat.relationships LIMIT 100",
    "settings": "SELECT FROM chat.settings LIMIT 100",
}
UNKNOWN = "00000000-0000-7000-8000-000000000000"
SOURCES = ("CIS PostgreSQL 17 4.7", "PostgreSQL manual 5.9 Row Security Policies")
FIX = "run `dbkeep drift postgresql`: the policy `floor` of the table is missing or was loosened (sql/policies/)"


@control(
    "ISO-CTX-01",
    "Without a user the API's role sees no row of any table",
    severity="critical",
    sources=SOURCES,
    fix=FIX,
)
def test_no_user(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    with access.postgresql(target, "app_api") as connection:
        seen = {table: attempt(connection, statement) for table, statement in TABLES.items()}
    observe(there_to_hide=people["other_users"], **{table: str(result) for table, result in seen.items()})
    leaking = [f"{table} ({result})" for table, result in seen.items() if not result.is_harmless]
    assert not leaking, f"app_api without a user sees {', '.join(leaking)}"


@control(
    "ISO-CTX-02",
    "An empty, blank or malformed user sees no row",
    severity="critical",
    sources=SOURCES,
    fix=FIX,
)
def test_unusable_user(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    leaking = []
    observe(there_to_hide=people["other_users"])
    with access.postgresql(target, "app_api") as connection:
        for value in ("", " ", "0", "' OR true --", "null"):
            seen = {table: attempt(connection, statement, user_id=value) for table, statement in TABLES.items()}
            observe(**{repr(value): {table: str(result) for table, result in seen.items()}})
            leaking += [
                f"{table} for {value!r} ({result})"
                for table, result in seen.items()
                if not result.is_harmless and result.sqlstate != INVALID_TEXT
            ]
    assert not leaking, f"app_api sees {', '.join(leaking)}"


@control(
    "ISO-CTX-03",
    "A user that does not exist sees no row",
    severity="critical",
    sources=SOURCES,
    fix=FIX,
)
def test_unknown_user(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    with access.postgresql(target, "app_api") as connection:
        seen = {table: attempt(connection, statement, user_id=UNKNOWN) for table, statement in TABLES.items()}
    observe(there_to_hide=people["other_users"], **{table: str(result) for table, result in seen.items()})
    leaking = [f"{table} ({result})" for table, result in seen.items() if not result.is_harmless]
    assert not leaking, f"app_api with an unknown user sees {', '.join(leaking)}"


@control(
    "ISO-CTX-04",
    "A connection forgets its user with the end of the transaction",
    severity="critical",
    sources=("PostgreSQL manual 9.28: set_config", *SOURCES),
    fix="set the user with set_config('app.user_id', ..., true) only; look for a SET in the role's settings",
)
def test_user_ends_with_transaction(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    own = "SELECT FROM chat.users"
    with access.postgresql(target, "app_api", autocommit=True) as connection:
        with connection.transaction():
            act_for(connection, people["id"])
            during = connection.execute(own).rowcount
        after_commit = connection.execute(own).rowcount
        attempt(connection, own, user_id=people["id"])
        after_rollback = connection.execute(own).rowcount
    observe(during=during, after_commit=after_commit, after_rollback=after_rollback)
    assert during == 1, f"the user saw {during} rows of chat.users in its own transaction, not its one"
    assert after_commit == after_rollback == 0, "the next transaction on the connection still sees the user's row"
