"""P34, P35, P36 and P43: does a refusal, a count or an error tell that a row exists that must stay hidden?

A hidden row and one that was never there must get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from dbkeep.checks.attempts import Attempt
from dbkeep.postgresql.prove import reach
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

SOURCES = ("PostgreSQL manual 5.9 Row Security Policies", "PostgreSQL manual 39.5 Rules and Privileges")
API = "app_api"
TIES = "chat.relationships"
# Shorter values are words that many rows have: "friend", "true".
SHORT = 8
# Those anna must not know of: one blocks her, one is deactivated.
HIDDEN = ("carl", "dora")
FUNCTIONS_OF_A_USER = (
    "SELECT chat.can_see({other})",
    "SELECT chat.request_friendship({new}, {other})",
    "SELECT chat.answer_friendship({other}, true)",
    "SELECT chat.block_user({new}, {other})",
)
FOREIGN_KEYS = """
SELECT c.conrelid::regclass::text, a.attname::text
FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
WHERE c.contype = 'f' AND c.confrelid = 'chat.users'::regclass ORDER BY 1, 2
"""


@probe(
    "P34", "No foreign key or function tells a hidden user from one that does not exist", area="leak", sources=SOURCES
)
def foreign_keys(world: World) -> Iterator[Finding]:
    hidden = [world.people[name].id for name in HIDDEN]
    for text in FUNCTIONS_OF_A_USER:
        for person in hidden:
            yield from _same_answer(world, [_call(text, one) for one in (person, uuid4())])
    for table, column in world.session(API).execute(FOREIGN_KEYS).fetchall():
        if column in world.declared.roles[API].grants.relations.get(table, {}).get("INSERT", ()):
            for person in hidden:
                yield from _same_answer(world, [_insert(world, table, one) for one in (person, uuid4())])


def _call(text: str, other: UUID) -> sql.Composed:
    return sql.SQL(text).format(other=sql.Literal(other), new=sql.Literal(uuid4()))


def _insert(world: World, table: str, user: UUID, **values: Any) -> sql.Composed:
    """A row like a seeded one, with a new id, that belongs to `user`."""
    allowed = world.declared.roles[API].grants.relations[table]["INSERT"]
    like = {key: value for key, value in world.seed.rows[table][0].items() if allowed == "all" or key in allowed}
    row = {**like, "id": uuid4(), "user_id": user, **values}
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(map(sql.Literal, row.values())),
    )


def _same_answer(world: World, statements: list[sql.Composed]) -> Iterator[Finding]:
    """The first statement is about a hidden user, the second one about one that does not exist."""
    hidden, missing = (world.attempt(API, statement, person=world.people["anna"]) for statement in statements)
    if _told(hidden) != _told(missing):
        yield Finding(API, statements[0].as_string(None), f"hidden: {hidden}, missing: {missing}")


def _told(answer: Attempt) -> tuple[object, ...]:
    return answer.rows, answer.sqlstate, answer.values, answer.message


@probe("P35", "No unique key tells that a hidden row exists", area="leak", sources=SOURCES)
def unique_keys(world: World) -> Iterator[Finding]:
    """A primary key is checked over all rows: who guesses a random id learns that it is taken."""
    anna = world.people["anna"]
    for table in world.declared.tables:
        if "INSERT" not in world.declared.roles[API].grants.relations.get(table, {}):
            continue
        taken = min(world.seed.ids(table) - world.seed.visible(table, anna))
        fresh = {"key": f"probe{uuid4().hex[:8]}"} if "key" in world.seed.rows[table][0] else {}
        for clause in ("", " ON CONFLICT DO NOTHING", " ON CONFLICT (id) DO NOTHING"):
            answers = [
                world.attempt(API, _insert(world, table, anna.id, id=key, **fresh) + sql.SQL(clause), person=anna)
                for key in (taken, uuid4())
            ]
            require(answers[1].rows == 1, f"anna cannot add a row to {table} ({answers[1]})")
            if _told(answers[0]) != _told(answers[1]):
                told = f"a hidden row's id: {answers[0]}, a new id: {answers[1]}"
                yield Finding(API, f"{table} INSERT{clause}", told, leak="primary_key_exists")
    yield from _unique_keys_in_functions(world)


def _unique_keys_in_functions(world: World) -> Iterator[Finding]:
    """ben and erik are not related, so that only the id of the new row can be in the way."""
    ben, erik = world.people["ben"], world.people["erik"]
    taken = min(world.seed.ids(TIES) - world.seed.visible(TIES, ben))
    for function in ("chat.request_friendship", "chat.block_user"):
        answers = [
            world.attempt(API, sql.SQL(f"SELECT {function}({{}}, {{}})").format(key, erik.id), person=ben)
            for key in (taken, uuid4())
        ]
        require(answers[1].sqlstate is None, f"ben cannot call {function} for erik ({answers[1]})")
        if _told(answers[0]) != _told(answers[1]):
            told = f"a hidden row's id: {answers[0]}, a new id: {answers[1]}"
            yield Finding(API, function, told, leak="primary_key_exists")


@probe("P36", "EXPLAIN ANALYZE counts no hidden rows and finds none", area="leak", sources=SOURCES)
def explain(world: World) -> Iterator[Finding]:
    anna, carl = world.people["anna"], world.people["carl"]
    keys: list[tuple[str, str, tuple[object, ...], object]] = [
        ("chat.users", "id = {}", (carl.id,), uuid4()),
        ("chat.users", "username = {}", (carl.username,), f"{carl.username}-missing"),
        ("chat.profiles", "user_id = {}", (carl.id,), uuid4()),
        ("chat.relationships", "user_id = {} AND related_user_id = {}", (carl.id, anna.id), uuid4()),
        ("chat.settings", "user_id = {}", (carl.id,), uuid4()),
    ]
    for role, table in reach.bound_to_user(world.declared):
        removed = _removed(world, role, sql.SQL("SELECT FROM {}").format(_name(table)), "enable_indexscan")
        if removed:
            yield Finding(role, table, f"a scan tells that {removed} rows are hidden", leak="explain_counts")
        for _, condition, values, absent in (key for key in keys if key[0] == table):
            query = sql.SQL("SELECT FROM {} WHERE " + condition)
            hidden, missing = (
                _removed(world, role, query.format(_name(table), *map(sql.Literal, shown)), "enable_seqscan")
                for shown in (values, (absent, *values[1:]))
            )
            if hidden != missing:
                told = f"{condition}: a hidden row filters {hidden} rows and a missing one {missing}"
                yield Finding(role, table, told, leak="explain_existence")


def _name(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def _removed(world: World, role: str, query: sql.Composed, avoided: str) -> int:
    """Return how many rows EXPLAIN ANALYZE says that filters took away, with one kind of scan avoided."""
    with world.acting_as(world.session(role), world.people["anna"]) as connection:
        connection.execute(
            "SELECT set_config(%s, 'off', true), set_config('enable_bitmapscan', 'off', true)", [avoided]
        )
        found = connection.execute(sql.SQL("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ") + query).fetchone()
    require(found, "EXPLAIN said nothing")
    return sum(_counts(found[0])) if found else 0


def _counts(node: Any) -> Iterator[int]:
    if isinstance(node, list):
        for part in node:
            yield from _counts(part)
    elif isinstance(node, dict):
        yield from (count for key, count in node.items() if key.startswith("Rows Removed"))
        for part in node.values():
            yield from _counts(part)


@probe("P43", "No error repeats a value of a hidden row", area="leak", sources=SOURCES)
def error_text(world: World) -> Iterator[Finding]:
    anna = world.people["anna"]
    for role, table in reach.bound_to_user(world.declared):
        visible = world.seed.visible(table, anna)
        known = {str(value) for row in world.seed.rows[table] if row["id"] in visible for value in row.values()}
        hidden = {
            str(value) for row in world.seed.rows[table] if row["id"] not in visible for value in row.values()
            if len(str(value)) > SHORT
        } - known  # fmt: skip
        hidden -= {str(person.id) for person in world.people.values()}
        require(hidden, f"no value of {table} is hidden from anna")
        for statement in _provocations(world, role, table):
            text = _error(world, role, statement)
            if any(value in text for value in hidden):
                yield Finding(role, table, f"{statement.as_string(None)}: {text}")


def _provocations(world: World, role: str, table: str) -> Iterator[sql.Composed]:
    """Statements that fail on a value of a row, if they get to see it."""
    hidden = world.seed.ids(table) - world.seed.visible(table, world.people["anna"])
    granted = world.declared.roles[role].grants.relations[table]
    columns = granted["SELECT"] if granted["SELECT"] != "all" else tuple(world.seed.rows[table][0])
    for column in columns:
        name = sql.Identifier(column)
        yield sql.SQL("SELECT ({}::text || ' ')::integer FROM {}").format(name, _name(table))
        yield sql.SQL("SELECT ({}::text || 'x')::numeric FROM {} WHERE id = ANY({})").format(
            name, _name(table), sql.Literal(sorted(hidden))
        )
        yield sql.SQL("SELECT 1 / (length({}::text) - length({}::text)) FROM {}").format(name, name, _name(table))
    if "INSERT" in granted:
        yield _insert(world, table, world.people["anna"].id, id=min(hidden))
        yield _insert(world, table, world.people["carl"].id)
    if "UPDATE" in granted:
        column = granted["UPDATE"][0] if granted["UPDATE"] != "all" else columns[0]
        yield sql.SQL("UPDATE {} SET {} = repeat('x', 20000)::text::jsonb").format(_name(table), sql.Identifier(column))


def _error(world: World, role: str, statement: sql.Composed) -> str:
    """Return everything that the server says about a statement that fails, '' when it does not."""
    with world.acting_as(world.session(role), world.people["anna"]) as connection:
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.DatabaseError as error:
            said = error.diag
            parts = (said.message_primary, said.message_detail, said.message_hint, said.context, said.internal_query)
            return " ".join(part for part in parts if part)
    return ""
