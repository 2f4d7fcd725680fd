"""PostgreSQL: what `sql/` declares, what the local server is, the plan between them, and its execution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress

import psycopg

from dbkeep import plan as plans
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.plan import Change, Plan
from dbkeep.postgresql import context_keys, inspect, migrations
from dbkeep.postgresql.connect import MAINTENANCE, Connection, DatabaseMissingError, connect, one_line
from dbkeep.postgresql.context_keys import WriteKey
from dbkeep.postgresql.declared import read as read_declared
from dbkeep.postgresql.diff import Normal, diff
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.normalise import normalise
from dbkeep.postgresql.statements import Operation, RunMigration
from dbkeep.settings import PostgreSQLSettings

__all__ = ["Declared", "apply", "connect", "counts", "plan", "read_declared", "users", "version"]

ENGINE = "postgresql"
# Any number will do as long as it is always the same: the key of the advisory lock that one apply at a time holds.
APPLY_LOCK = 0x64626B656570
APPLY_LOCK_SECONDS = 2


def users(declared: Declared) -> list[str]:
    """Return the names of the roles that log on, each of which needs a password in the vault."""
    return [name for name, role in declared.roles.items() if role.login]


def plan(settings: PostgreSQLSettings, declared: Declared, secrets: Mapping[str, str]) -> Plan:
    """Return what differs between `declared` and the server; `secrets` maps roles to passwords.

    A role that `secrets` leaves out keeps the password it has; one that has none then is a refused change. Its entry
    "context_key" holds the keys that a signed context is verified with.

    Raises DeclaredError when the server refuses a declared expression, UsageError when the server cannot be used.
    """
    try:
        with connect(settings, declared.scope.database) as connection:
            live = inspect.inspect(connection, declared)
            normal = normalise(connection, declared, live)
            live_keys = context_keys.read(connection)
    except DatabaseMissingError:
        # A new database is a copy of template1, so that is what it starts with.
        with connect(settings, "template1") as connection:
            live, normal, live_keys = inspect.inspect(connection, declared), Normal(), {}
    return Plan(ENGINE, (*diff(declared, live, normal, secrets), *context_keys.diff(declared, live_keys, secrets)))


def apply(
    settings: PostgreSQLSettings,
    declared: Declared,
    secrets: Mapping[str, str],
    *,
    allow_destructive: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Plan, run the plan and return the changes made. Every change is one transaction.

    Raises ApplyError when a change is refused or fails, UsageError when another apply is running on the server.
    """
    with _only_one(settings), _executor(settings, declared.scope.database) as execute:
        return plans.apply(
            plan(settings, declared, secrets), execute, allow_destructive=allow_destructive, on_change=on_change
        )


def version(settings: PostgreSQLSettings) -> str:
    """Return the version of the running server, such as "15.18"."""
    with connect(settings, MAINTENANCE) as connection:
        return connection.info.parameter_status("server_version").split()[0]  # type: ignore[union-attr]


def counts(settings: PostgreSQLSettings, schema: str = "chat") -> dict[str, int]:
    """Return the number of rows of each table in `schema`, by qualified name such as "chat.users"."""
    with connect(settings) as connection:
        return inspect.counts(connection, schema)


@contextmanager
def _only_one(settings: PostgreSQLSettings) -> Iterator[None]:
    """Hold the apply lock. The server process of a killed apply needs a moment to notice, so the lock is waited for."""
    with connect(settings, MAINTENANCE) as connection:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{APPLY_LOCK_SECONDS}s"])
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", [APPLY_LOCK])
        except psycopg.errors.LockNotAvailable:
            raise UsageError(
                "another apply is running on this server: wait for it and run the same command again"
            ) from None
        try:
            yield
        finally:
            # Closing the connection would free the lock only when the server gets to it. A lost one has lost its lock.
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT pg_advisory_unlock(%s)", [APPLY_LOCK])


@contextmanager
def _executor(settings: PostgreSQLSettings, managed: str) -> Iterator[Callable[[Change], None]]:
    """Yield what executes a change, on connections that are opened when first needed."""
    with ExitStack() as stack:
        connections: dict[str, Connection] = {}

        def execute(change: Change) -> None:
            operation = change.operation
            if isinstance(operation, RunMigration):
                migrations.run(settings, managed, operation)
                return
            name = managed if isinstance(operation, WriteKey) else operation.database or managed
            if name not in connections:
                connections[name] = stack.enter_context(connect(settings, name))
            try:
                if isinstance(operation, WriteKey):
                    context_keys.run(connections[name], operation)
                else:
                    _run(connections[name], operation)
            except psycopg.Error as error:
                raise DbkeepError(
                    f"{operation.where}: {one_line(error)}" if operation.where else one_line(error)
                ) from None

        yield execute


def _run(connection: Connection, operation: Operation) -> None:
    with connection.transaction() if operation.transaction else nullcontext():
        for statement in operation.statements:
            connection.execute(statement)
