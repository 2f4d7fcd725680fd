"""P24 to P29 and P32: can a user write, move or remove a row that is not its own?

Grants and policies stand in each other's shadow: where the world is a copy, each probe also tries the policies alone,
with every privilege on the table lent to the role.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from dbkeep.checks.attempts import Attempt, Statement, attempt
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.seed import Person
from dbkeep.postgresql.prove.world import Connection, World
from dbkeep.prove.probe import Finding, require

API = "app_api"
SOURCES = ("CIS PostgreSQL 17 4.7", "PostgreSQL manual: CREATE POLICY, Per-Command Policies")
TABLES = ("chat.users", "chat.profiles", "chat.relationships", "chat.settings")
# A column that the API changes in each table, and a new value for it.
CHANGE = {
    "chat.users": "is_active = false",
    "chat.profiles": "bio = 'changed'",
    "chat.relationships": "status = 'accepted'",
    "chat.settings": "value = '1'",
}
OWNER = {"chat.users": "id", "chat.profiles": "user_id", "chat.relationships": "user_id", "chat.settings": "user_id"}
ADD = b"INSERT INTO chat.settings (id, user_id, key, value) VALUES (%s, %s, %s, '1')"


Layer = tuple[str, Connection]


@contextmanager
def layers(world: World) -> Iterator[list[Layer]]:
    """Yield the API's own session and, in a copy, one with every privilege on every table: policies alone."""
    session = world.session(API)
    if not world.is_copy:
        yield [("", session)]
        return
    with world.lent(API, *(f"GRANT ALL ON {table} TO {API}" for table in TABLES)) as lent:
        yield [("", session), (" with all privileges lent", lent)]


def writable(world: World, command: str, table: str, person: Person) -> set[UUID]:
    """Return the ids of the rows that the policies let `person` change or remove, whatever is granted."""
    policies = [p for p in world.declared.policies if p.table == table and p.permissive and API in p.roles]
    if not person.is_active or not any(policy.command in (command, "ALL") for policy in policies):
        return set()
    if table != "chat.relationships":
        return world.seed.own(table, person)
    return {
        row["id"]
        for row in world.seed.rows[table]
        if (row["user_id"] == person.id and row["status"] != "rejected")
        or (row["related_user_id"] == person.id and row["type"] == "friend")
    }


def _people(world: World) -> list[Person]:
    return [world.people[name] for name in ("anna", "carl", "dora")]


def _try(world: World, connection: Connection, person: Person, statement: Statement, *parameters: Any) -> Attempt:
    return attempt(connection, statement, parameters, user_id=world.context(person, connection))


@probe("P24", "No user inserts a row for another", area="write", sources=SOURCES)
def insert_as_other(world: World) -> Iterator[Finding]:
    anna, dora = world.people["anna"], world.people["dora"]
    with layers(world) as ways:
        for way, connection in ways:
            own = _try(world, connection, anna, ADD, uuid4(), anna.id, "probe.own")
            require(own.rows == 1, f"anna cannot insert a setting of her own{way} ({own})")
            for other in world.people.values():
                for person in (anna, dora):
                    for statement, parameters in _insertions(other, person):
                        if other == person == anna and b"settings" in statement:
                            continue
                        tried = _try(world, connection, person, statement, *parameters)
                        if not tried.is_denied:
                            table = statement.split()[2].decode()
                            yield Finding(API, table, f"{person.name} inserts for {other.name}{way}: {tried}")
            nobody = attempt(connection, ADD, [uuid4(), anna.id, "probe.nobody"])
            if not nobody.is_denied:
                yield Finding(API, "chat.settings", f"without a context a row is inserted{way}: {nobody}")


ADD_PROFILE = b"INSERT INTO chat.profiles (id, user_id) VALUES (%s, %s)"
ADD_FRIEND = b"""
INSERT INTO chat.relationships (id, user_id, related_user_id, type, status) VALUES (%s, %s, %s, 'friend', 'accepted')
"""
ADD_USER = b"""
INSERT INTO chat.users (id, email, email_index, username, password_hash)
VALUES (%s, 'e1:x', decode(md5('a') || md5('b'), 'hex'), %s, '$argon2id$x')
"""


def _insertions(other: Person, person: Person) -> Iterator[tuple[bytes, tuple[Any, ...]]]:
    yield ADD, (uuid4(), other.id, "probe.other")
    yield ADD_PROFILE, (uuid4(), other.id)
    yield ADD_FRIEND, (uuid4(), other.id, person.id if person != other else uuid4())
    yield ADD_USER, (uuid4(), f"probe-{uuid4()}")


@probe("P25", "No user gives a row of its own to another", area="write", sources=SOURCES)
def move_ownership(world: World) -> Iterator[Finding]:
    anna, ben = world.people["anna"], world.people["ben"]
    with layers(world) as ways:
        for way, connection in ways:
            own = sorted(world.seed.own("chat.settings", anna))
            changed = _try(world, connection, anna, b"UPDATE chat.settings SET value = '1' WHERE id = ANY(%s)", own)
            require(changed.rows == len(own), f"anna cannot change her own settings{way} ({changed})")
            for table, column in OWNER.items():
                for new in (ben.id, uuid4()):
                    for statement, parameters in _moves(world, table, column, new, anna):
                        moved = _try(world, connection, anna, statement, *parameters)
                        if not moved.is_harmless:
                            yield Finding(API, f"{table}.{column}", f"anna moves a row of hers{way}: {moved}")
            upsert = ADD + b" ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id"
            for row in world.seed.own("chat.settings", anna):
                moved = _try(world, connection, anna, upsert, row, ben.id, "probe.moved")
                if not moved.is_denied:
                    yield Finding(API, "chat.settings.user_id", f"anna moves a row by ON CONFLICT{way}: {moved}")


def _moves(
    world: World, table: str, column: str, new: UUID, person: Person
) -> Iterator[tuple[bytes, tuple[UUID, ...]]]:
    change = f"UPDATE {table} SET {column} = %s, {CHANGE[table]}"
    yield f"{change} WHERE {column} = %s".encode(), (new, person.id)
    # A statement that reads no column is not bound by the policies for reading: those for writing must do alone.
    if world.is_copy:
        yield change.encode(), (new,)


@probe("P26", "UPDATE and DELETE reach no row of another", area="write", sources=SOURCES)
def change_other(world: World) -> Iterator[Finding]:
    with layers(world) as ways:
        for way, connection in ways:
            for command in _commands():
                for person in _people(world):
                    yield from _change(world, (way, connection), command, person)


class Command(NamedTuple):
    name: str
    table: str
    statement: str


def _commands() -> Iterator[Command]:
    for table in TABLES:
        yield Command("UPDATE", table, f"UPDATE {table} SET {CHANGE[table]}")
        yield Command("DELETE", table, f"DELETE FROM {table}")


def _change(world: World, layer: Layer, command: Command, person: Person) -> Iterator[Finding]:
    (way, connection), target = layer, f"{command.name} {command.table}"
    may = writable(world, command.name, command.table, person)
    others = sorted(world.seed.ids(command.table) - may)
    forms: list[tuple[str, str, list[list[UUID]], int]] = [
        ("all rows", " WHERE id = ANY(%s)", [[*may, *others]], len(may)),
        ("rows of others", " WHERE id = ANY(%s)", [others], 0),
        ("one row of another", " WHERE id = ANY(%s)", [others[:1]], 0),
    ]
    # A statement that reads no column is not bound by the policies for reading: those for writing must do alone.
    forms += [("all rows, blindly", "", [], len(may))] if world.is_copy else []
    for name, condition, parameters, allowed in forms:
        done = _try(world, connection, person, (command.statement + condition).encode(), *parameters)
        if done.rows > allowed or (done.sqlstate is not None and not done.is_denied):
            yield Finding(API, target, f"{person.name} reaches {done} for {name}{way}, not {allowed}")
        elif not (done.is_denied and not way):
            require(done.rows == allowed, f"{person.name} cannot {target}{way}: {done} for {name}, not {allowed}")


@probe("P27", "An upsert changes no hidden row", area="write", sources=SOURCES)
def upsert(world: World) -> Iterator[Finding]:
    anna, ben = world.people["anna"], world.people["ben"]
    by_key = ADD + b" ON CONFLICT (user_id, key) DO UPDATE SET value = '\"taken\"'"
    by_id = ADD + b" ON CONFLICT (id) DO UPDATE SET value = '\"taken\"'"
    with layers(world) as ways:
        for way, connection in ways:
            own = _try(world, connection, anna, by_key, uuid4(), anna.id, "theme")
            require(own.rows == 1, f"anna cannot upsert a setting of her own{way} ({own})")
            for row in sorted(world.seed.own("chat.settings", ben)):
                for name, statement, parameters in (
                    ("by key", by_key, (uuid4(), ben.id, "theme")),
                    ("by id", by_id, (row, anna.id, "probe.taken")),
                    ("by id and owner", by_id, (row, ben.id, "probe.taken")),
                ):
                    tried = _try(world, connection, anna, statement, *parameters)
                    if not tried.is_harmless:
                        yield Finding(API, "chat.settings", f"anna upserts a row of ben {name}{way}: {tried}")


@probe("P28", "MERGE reaches no row of another", area="write", sources=(*SOURCES, "CVE-2023-39418"))
def merge(world: World) -> Iterator[Finding]:
    anna, ben = world.people["anna"], world.people["ben"]
    head = "MERGE INTO {t} t USING unnest(%s::uuid[]) v (id) ON t.id = v.id "
    with layers(world) as ways:
        for way, connection in ways:
            for command, table, _ in _commands():
                action = "DELETE" if command == "DELETE" else f"UPDATE SET {CHANGE[table]}"
                statement = f"{head.format(t=table)} WHEN MATCHED THEN {action}".encode()
                may = writable(world, command, table, anna)
                own = _try(world, connection, anna, statement, sorted(may))
                require(own.is_denied or own.rows == len(may), f"MERGE {command} on own rows of {table}{way}: {own}")
                tried = _try(world, connection, anna, statement, sorted(world.seed.ids(table) - may))
                if not tried.is_harmless:
                    yield Finding(API, f"MERGE {command} {table}", f"anna reaches rows of others{way}: {tried}")
            insert = (
                head.format(t="chat.settings")
                + "WHEN NOT MATCHED THEN INSERT (id, user_id, key, value) VALUES (v.id, %s, 'probe.merge', '1')"
            ).encode()
            own = _try(world, connection, anna, insert, [uuid4()], anna.id)
            require(own.rows == 1, f"anna cannot MERGE a new setting of her own{way} ({own})")
            tried = _try(world, connection, anna, insert, [uuid4()], ben.id)
            if not tried.is_denied:
                yield Finding(API, "MERGE INSERT chat.settings", f"anna inserts for ben{way}: {tried}")


@probe("P29", "RETURNING gives back own rows and readable columns only", area="write", sources=SOURCES)
def returning(world: World) -> Iterator[Finding]:
    condition = "" if world.is_copy else " WHERE id = ANY(%s)"
    with layers(world) as ways:
        for way, connection in ways:
            for command, table, statement in _commands():
                for person in _people(world):
                    parameters = [] if world.is_copy else [sorted(world.seed.ids(table))]
                    query = f"{statement}{condition} RETURNING id".encode()
                    done = _try(world, connection, person, query, *parameters)
                    extra = {row for (row,) in done.values} - writable(world, command, table, person)
                    if extra:
                        yield Finding(API, f"{command} {table}", f"{person.name} is given {len(extra)} rows{way}")
    anna = world.people["anna"]
    for column in ("email", "email_index", "password_hash"):
        query = f"UPDATE chat.users SET is_active = false WHERE id = %s RETURNING {column}".encode()
        given = world.attempt(API, query, [anna.id], person=anna)
        if not given.is_denied:
            yield Finding(API, f"chat.users.{column}", f"RETURNING gives it back: {given}")
    own = world.attempt(API, ADD + b" RETURNING id", [uuid4(), anna.id, "probe.returning"], person=anna)
    require(len(own.values) == 1, f"anna is not given back her own new row ({own})")


@probe("P32", "One row for another in a statement of many refuses them all", area="write", sources=SOURCES)
def mixed_insert(world: World) -> Iterator[Finding]:
    anna, ben = world.people["anna"], world.people["ben"]
    many = ADD + b", (%s, %s, %s, '2')"
    with layers(world) as ways:
        for way, connection in ways:
            own = _try(world, connection, anna, many, uuid4(), anna.id, "probe.one", uuid4(), anna.id, "probe.two")
            require(own.rows == 2, f"anna cannot insert two settings of her own{way} ({own})")
            for first, second in ((anna, ben), (ben, anna)):
                tried = _try(world, connection, anna, many, uuid4(), first.id, "probe.1", uuid4(), second.id, "probe.2")
                if not tried.is_denied:
                    yield Finding(API, "chat.settings", f"rows for {first.name} and {second.name}{way}: {tried}")
