"""A world: one database that holds the declared state and seeded people, and real connections to it as real roles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg import sql

from chat_api.context import Signer
from dbkeep.checks.attempts import Attempt, Statement, Step, act_for, attempt
from dbkeep.postgresql.connect import one_line
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.prove.seed import Person, Seed

Connection = psycopg.Connection[tuple[Any, ...]]
# A session that was closed counts against its role's connection limit until the server has noticed.
SLOTS_ASKED, SLOT_SECONDS = 20, 0.1
Keywords = Callable[[str], dict[str, Any]]
Open = Callable[..., Connection]


class World:
    """`first` are names of what to try before the rest, where a probe has a choice.

    `connect` logs on as a role; `superuser` exists only where the world is a copy that may be spoilt."""

    errors: tuple[type[Exception], ...] = (psycopg.Error,)

    def __init__(
        self,
        declared: Declared,
        seed: Seed,
        database: str,
        keywords: Keywords,
        *,
        signer: Signer,
        open_superuser: Open | None = None,
    ) -> None:
        self.declared, self.seed, self.database, self.signer = declared, seed, database, signer
        self._keywords, self._open_superuser = keywords, open_superuser
        self.first: frozenset[str] = frozenset()
        self._stack = ExitStack()
        self._sessions: dict[str, Connection] = {}

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def describe(self, error: Exception) -> str:
        return one_line(error) if isinstance(error, psycopg.Error) else str(error)

    @property
    def is_copy(self) -> bool:
        return self._open_superuser is not None

    @property
    def people(self) -> dict[str, Person]:
        return self.seed.people

    @property
    def login_roles(self) -> list[str]:
        """The roles that log on, each tried over a connection of its own; those to try `first` first."""
        names = [name for name, role in self.declared.roles.items() if role.login]
        return sorted(names, key=lambda name: name not in self.first)

    def connect(self, role: str, **options: Any) -> Connection:
        """Return a new autocommit connection as `role`, with its password; `options` override libpq's keywords."""
        # What a role's settings forbid, it may allow itself: they are no boundary, so no attack is stopped by them.
        own = {"autocommit": True, "options": "-c default_transaction_read_only=off"}
        keywords = self.keywords(role) | own | options
        for _ in range(SLOTS_ASKED):
            try:
                return psycopg.connect(**keywords)
            except psycopg.OperationalError as error:
                if "too many connections" not in str(error):
                    raise
            time.sleep(SLOT_SECONDS)
        return psycopg.connect(**keywords)

    def keywords(self, role: str) -> dict[str, Any]:
        """Return libpq's keywords for a connection as `role`; they hold its password."""
        return self._keywords(role) | {"dbname": self.database, "application_name": "dbkeep prove"}

    def session(self, role: str) -> Connection:
        """Return the world's own connection as `role`, opened when first asked for; whatever is set on it is reset."""
        if role not in self._sessions or self._sessions[role].closed:
            self._sessions[role] = self._stack.enter_context(self.connect(role))
        return self._sessions[role]

    def superuser(self) -> Connection:
        """Return a connection that nothing binds. Raises ValueError where the world is a live server."""
        if self._open_superuser is None:
            raise ValueError("a live server is never touched as superuser")
        if "" not in self._sessions or self._sessions[""].closed:
            self._sessions[""] = self._stack.enter_context(self._open_superuser(dbname=self.database, autocommit=True))
        return self._sessions[""]

    def context(self, person: Person, connection: Connection) -> str:
        """Return what the API sets `app.user_id` to when it acts for `person` in the session of `connection`."""
        return self.signer.sign(person.id, connection.info.backend_pid)

    @contextmanager
    def acting_as(self, connection: Connection, person: Person) -> Iterator[Connection]:
        """A transaction of `person`, opened as the API opens it, rolled back at its end."""
        with connection.transaction(force_rollback=True):
            self.act_for(connection, person)
            yield connection

    def act_for(self, connection: Connection, person: Person) -> None:
        """Let the rest of the transaction act for `person`, as the API does."""
        act_for(connection, self.context(person, connection))

    def attempt(
        self,
        role: str,
        statement: Statement,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        person: Person | None = None,
        context: str | None = None,
        after: Sequence[Step] = (),
    ) -> Attempt:
        """Try a statement as `role`, acting for `person` or with the raw `context` when given; nothing of it stays."""
        value = self.context(person, self.session(role)) if person else context
        return attempt(self.session(role), statement, parameters, user_id=value, after=after)

    @contextmanager
    def lent(self, role: str, *statements: str) -> Iterator[Connection]:
        """Yield a connection that acts as `role` after `statements` of a superuser; all of it is rolled back.

        For one layer alone: with the grant widened, does the policy still hold? Only where the world is a copy.
        """
        connection = self.superuser()
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL ROLE NONE")
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            yield connection
