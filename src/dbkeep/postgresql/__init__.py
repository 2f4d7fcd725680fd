"""PostgreSQL: what `sql/` declares, what the local server is, the plan between them, and its execution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext

import psycopg

from dbkeep import plan as plans
from dbkeep.errors import DbkeepError
from dbkeep.plan import Change, Plan
from dbkeep.postgresql import apply_lock, context_keys, inspect, migrations, server
from dbkeep.postgresql.connect import BRIEF_SESSION, MAINTENANCE, Connection, DatabaseMissingError, advice, connect
from dbkeep.postgresql.context_keys import WriteKey
from dbkeep.postgresql.declared import read as read_declared
from dbkeep.postgresql.diff import Normal, diff
from dbkeep.postgresql.diff import settings as diff_settings
from dbkeep.postgresql.inspect import settings as inspect_settings
from dbkeep.postgresql.migrations.patience import patiently
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.normalise import normalise
from dbkeep.postgresql.statements import Operation, RunMigration
from dbkeep.settings import PostgreSQLSettings

__all__ = ["Declared", "apply", "connect", "counts", "plan", "read_declared", "users", "version"]

ENGINE = "postgresql"


def users(declared: Declared) -> list[str]:
    """Return the names of the roles that log on, each of which needs a password in the vault."""
    return [name for name, role in declared.roles.items() if role.login]


def plan(settings: PostgreSQLSettings, declared: Declared, secrets: Mapping[str, str]) -> Plan:
    """Return what differs between `declared` and the server; `secrets` maps roles to passwords.

    A role that `secrets` leaves out keeps the password it has; one that has none then is a refused change. Its entry
    "context_key" holds the keys that a signed context is verified with.

    Raises DeclaredError when the server refuses a declared expression, UsageError when the server cannot be used.
    """
    first, last = _settings(settings, declared)
    try:
        with connect(settings, declared.scope.database) as connection:
            live = inspect.inspect(connection, declared)
            normal = normalise(connection, declared, live)
            live_keys = context_keys.read(connection)
    except DatabaseMissingError:
        # A new database is a copy of template1, so that is what it starts with.
        with connect(settings, "template1") as connection:
            live = inspect.inspect(connection, declared)
            normalise(connection, declared, live)
        normal, live_keys = Normal(), {}
    keys = context_keys.diff(declared, live_keys, secrets)
    return Plan(ENGINE, (*first, *diff(declared, live, normal, secrets), *keys, *last))


def _settings(settings: PostgreSQLSettings, declared: Declared) -> tuple[list[Change], list[Change]]:
    """Return the changes of the server's settings that come first and last; none where it is not told its files."""
    if not settings.server:
        return [], []
    with connect(settings, MAINTENANCE, options="") as connection:
        live = inspect_settings.inspect(connection, settings.files)
    return diff_settings.diff(declared, live, settings)


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
    return run(
        settings, declared, lambda: plan(settings, declared, secrets),
        allow_destructive=allow_destructive, on_change=on_change,
    )  # fmt: skip


def run(
    settings: PostgreSQLSettings,
    declared: Declared,
    planned: Callable[[], Plan],
    *,
    allow_destructive: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Run the plan that `planned` returns once no other apply is running, and return the changes made.

    Raises ApplyError and UsageError as `apply` does.
    """
    with apply_lock.held(settings) as still_held, _executor(settings, declared.scope.database, still_held) as execute:
        return plans.apply(planned(), execute, allow_destructive=allow_destructive, on_change=on_change)


def version(settings: PostgreSQLSettings) -> str:
    """Return the version of the running server, such as "15.18"."""
    with connect(settings, MAINTENANCE) as connection:
        return connection.info.parameter_status("server_version").split()[0]  # type: ignore[union-attr]


def counts(settings: PostgreSQLSettings, schema: str = "chat") -> dict[str, int]:
    """Return the number of rows of each table in `schema`, by qualified name such as "chat.users"."""
    with connect(settings) as connection:
        return inspect.counts(connection, schema)


@contextmanager
def _executor(
    settings: PostgreSQLSettings, managed: str, still_held: Callable[[], None]
) -> Iterator[Callable[[Change], None]]:
    """Yield what executes a change, on connections that are opened when first needed."""
    with ExitStack() as stack:
        connections: dict[str, Connection] = {}

        def execute(change: Change) -> None:
            still_held()
            operation = change.operation
            try:
                if isinstance(operation, RunMigration):
                    migrations.run(settings, managed, operation)
                    return
                if isinstance(operation, server.Operation):
                    server.run(settings, operation)
                    return
                name = managed if isinstance(operation, WriteKey) else operation.database or managed
                if name not in connections:
                    connections[name] = stack.enter_context(connect(settings, name, options=BRIEF_SESSION))
                if isinstance(operation, WriteKey):
                    context_keys.run(connections[name], operation)
                else:
                    _run(connections[name], operation, f"{change.kind} {change.target}")
            except psycopg.Error as error:
                where = getattr(operation, "where", "")
                raise DbkeepError(f"{where}: {advice(error)}" if where else advice(error)) from None

        yield execute


def _run(connection: Connection, operation: Operation, what: str) -> None:
    """What is one transaction is tried again as one when another session is in its way."""

    def transaction() -> None:
        # One statement is a transaction by itself.
        with connection.transaction() if len(operation.statements) > 1 else nullcontext():
            for statement in operation.statements:
                connection.execute(statement)

    if operation.transaction:
        patiently(what, transaction)
        return
    for statement in operation.statements:
        # A failed build leaves an invalid index, which the next plan drops: it is not begun again here.
        if "CONCURRENTLY" in statement.as_string(None):
            connection.execute(statement)
        else:
            patiently(what, lambda: connection.execute(statement))  # noqa: B023 - called at once
