"""Does a user see and change its own rows, and nobody else's?"""

from typing import Any, LiteralString
from uuid import uuid4

from dbkeep.checks.access import Access
from dbkeep.checks.attempts import Step, act_for, attempt
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

SOURCES = ("CIS PostgreSQL 17 4.7", "PostgreSQL manual 5.9 Row Security Policies")
FIX = "run `dbkeep drift postgresql`: a policy of the table is missing or was loosened (sql/policies/)"


def rows_of(other: str, own: str) -> list[Step]:
    """Return what the other user writes first: a setting, and a block that its target must never see."""
    setting = "INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, 'dbkeep.probe', '1')"
    return [(other, setting, (uuid4(), other)), (other, "SELECT chat.block_user(%s, %s)", (uuid4(), own))]


@control(
    "ISO-READ-01",
    "A user sees its own rows and none of another's",
    severity="critical",
    sources=SOURCES,
    fix=FIX,
)
def test_reads_own_only(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    own, other = people["id"], people["other_id"]
    statements: dict[str, LiteralString] = {
        "users": "SELECT FROM chat.users WHERE id <> %s LIMIT 100",
        "settings": "SELECT FROM chat.settings WHERE user_id <> %s LIMIT 100",
        "relationships": "SELECT FROM chat.relationships WHERE %s NOT IN (user_id, related_user_id) LIMIT 100",
        "blocks against it": "SELECT FROM chat.relationships WHERE related_user_id = %s AND type = 'blocked' LIMIT 100",
    }
    written = rows_of(other, own)
    with access.postgresql(target, "app_api") as connection:
        itself = attempt(connection, "SELECT FROM chat.users WHERE id = %s", (own,), user_id=own)
        author = attempt(
            connection, "SELECT FROM chat.settings WHERE user_id = %s", (other,), user_id=other, after=written
        )
        foreign = {
            name: attempt(connection, statement, (own,), user_id=own, after=written)
            for name, statement in statements.items()
        }
        foreign["users by key"] = attempt(connection, "SELECT FROM chat.users WHERE id = %s", (other,), user_id=own)
        foreign["profile of who blocks it"] = attempt(
            connection, "SELECT FROM chat.profiles WHERE user_id = %s", (other,), user_id=own, after=written
        )
    hidden = {name: people[f"other_{name}"] for name in ("users", "settings", "relationships")}
    seen = {name: str(result) for name, result in foreign.items()}
    observe(own_row=str(itself), author_sees=str(author), there_to_hide=hidden, seen=seen)
    assert author.rows >= 1, f"the author does not see its own setting ({author}): the probe would prove nothing"
    assert itself.rows == 1, f"the user does not see its own row ({itself}): the probe would prove nothing"
    leaking = [f"{name} ({result})" for name, result in foreign.items() if not result.is_harmless]
    assert not leaking, f"a user sees of others: {', '.join(leaking)}"


@control(
    "ISO-READ-02",
    "Row security cannot be switched off, copied around or joined around",
    severity="critical",
    sources=("PostgreSQL manual 20.11: row_security", "CVE-2024-10976", *SOURCES),
    fix=FIX,
)
def test_reads_by_detours(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    own = people["id"]
    detours: dict[str, LiteralString] = {
        "join": "SELECT FROM chat.users u JOIN chat.users o ON o.id <> u.id LIMIT 100",
        "expression": "WITH every AS MATERIALIZED (SELECT id FROM chat.users) SELECT FROM every WHERE id <> %s::uuid",
        "sample": "SELECT FROM chat.users TABLESAMPLE SYSTEM (100) WHERE id <> %s::uuid LIMIT 100",
        "lock": "SELECT FROM chat.settings WHERE user_id <> %s::uuid LIMIT 100 FOR UPDATE SKIP LOCKED",
        "statistics": "SELECT FROM pg_stats WHERE schemaname = 'chat' AND tablename = 'users' LIMIT 100",
    }
    with access.postgresql(target, "app_api") as connection:
        seen = {
            name: attempt(connection, statement, (own,) if "%s" in statement else (), user_id=own)
            for name, statement in detours.items()
        }
        with connection.transaction(force_rollback=True):
            act_for(connection, own)
            connection.execute("SELECT set_config('row_security', 'off', true)")
            seen["row_security = off"] = attempt(connection, "SELECT FROM chat.users LIMIT 100")
    observe(**{name: str(result) for name, result in seen.items()})
    leaking = [f"{name} ({result})" for name, result in seen.items() if not result.is_harmless]
    assert not leaking, f"a user reaches rows of others by {', '.join(leaking)}"


@control(
    "ISO-WRITE-01",
    "A user cannot write in another's name or hand its rows over",
    severity="critical",
    sources=SOURCES,
    fix=FIX,
)
def test_writes_in_own_name(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    own, other = people["id"], people["other_id"]
    insert: LiteralString = "INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, 'dbkeep.probe', '1')"
    with access.postgresql(target, "app_api") as connection:
        itself = attempt(connection, insert, (uuid4(), own), user_id=own)
        tried = {
            "insert a setting": attempt(connection, insert, (uuid4(), other), user_id=own),
            "insert a setting without a user": attempt(connection, insert, (uuid4(), other)),
            "hand over a setting": attempt(
                connection, "UPDATE chat.settings SET user_id = %s WHERE user_id = %s", (other, own), user_id=own
            ),
            "forge a friendship": attempt(
                connection,
                "INSERT INTO chat.relationships (id, user_id, related_user_id, type, status)"
                " VALUES (%s, %s, %s, 'friend', 'accepted')",
                (uuid4(), other, own),
                user_id=own,
            ),
        }
    observe(own_setting=str(itself), tried={name: str(result) for name, result in tried.items()})
    assert itself.rows == 1, f"the user cannot write a setting of its own ({itself}): the probe would prove nothing"
    done = [f"{name} ({result})" for name, result in tried.items() if not result.is_denied]
    assert not done, f"as another user it could {', '.join(done)}"


@control(
    "ISO-WRITE-02",
    "A user cannot change or delete another's rows",
    severity="critical",
    sources=SOURCES,
    fix=FIX,
)
def test_changes_own_only(access: Access, target: Host, people: dict[str, Any], observe: Observe) -> None:
    own, other = people["id"], people["other_id"]
    statements: dict[str, LiteralString] = {
        "deactivate it": "UPDATE chat.users SET is_active = false WHERE id = %s",
        "change its profile": "UPDATE chat.profiles SET bio = 'probe' WHERE user_id = %s",
        "change its settings": "UPDATE chat.settings SET value = '1' WHERE user_id = %s",
        "delete its settings": "DELETE FROM chat.settings WHERE user_id = %s",
        "delete its account": "DELETE FROM chat.users WHERE id = %s",
        "change its name": "UPDATE chat.users SET username = 'probe' WHERE id = %s",
    }
    with access.postgresql(target, "app_api") as connection:
        itself = attempt(connection, "UPDATE chat.profiles SET bio = bio WHERE user_id = %s", (own,), user_id=own)
        written = rows_of(other, own)
        tried = {
            name: attempt(connection, text, (other,), user_id=own, after=written) for name, text in statements.items()
        }
    observe(own_profile=str(itself), tried={name: str(result) for name, result in tried.items()})
    assert itself.rows == 1, f"the user cannot change its own profile ({itself}): the probe would prove nothing"
    done = [f"{name} ({result})" for name, result in tried.items() if not result.is_harmless]
    assert not done, f"a user could do to another: {', '.join(done)}"
