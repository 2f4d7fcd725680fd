"""MongoDB: declared state, plan and apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pymongo.errors import ConnectionFailure, PyMongoError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb import connect as _connect
from dbkeep.mongodb import declared as _declared
from dbkeep.mongodb import diff as _diff
from dbkeep.mongodb import inspect as _inspect
from dbkeep.mongodb import members as _members
from dbkeep.mongodb import questions as _questions
from dbkeep.mongodb import statements
from dbkeep.mongodb.migrations import Migrator
from dbkeep.mongodb.migrations.batches import Pace
from dbkeep.mongodb.migrations.lock import MigrationLock
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError, Change, Plan, Risk
from dbkeep.plan import apply as apply_plan
from dbkeep.settings import MongoDBSettings

__all__ = ["Declared", "apply", "counts", "plan", "read_declared", "users", "version"]

SEARCH_SECONDS = 60

OnChange = Callable[[Change], None]
Report = Callable[[str], None]


def quiet(_: Any) -> None:
    """Say nothing of what goes on."""


def read_declared(root: Path) -> Declared:
    """Return the declared state of the checkout at `root`. Raises DeclaredError."""
    return _declared.read(root)


def users(declared: Declared) -> list[str]:
    """Return the users that need a password from the vault."""
    return [user.name for user in declared.users]


def plan(
    settings: MongoDBSettings,
    declared: Declared,
    secrets: Mapping[str, str],
    *,
    warn: bool = False,
    documents: bool = False,
    search_seconds: float = SEARCH_SECONDS,
) -> Plan:
    """Return how the server differs from `declared` and from the passwords in `secrets` (user: password).

    A changed validator that documents break is refused, or with `warn` set as a warning. With `documents` the
    collections that nothing changes for are searched too for documents that break their validator. A search of one
    collection ends after `search_seconds`.

    Raises UsageError when a password is missing or no usable server answers.
    """
    search = _questions.Search(search_seconds, documents)
    with _connect.connect(settings) as connection:
        return _plan(connection, settings, declared, secrets, search, warn=warn)


def apply(
    settings: MongoDBSettings,
    declared: Declared,
    secrets: Mapping[str, str],
    *,
    allow_destructive: bool = False,
    on_change: OnChange = quiet,
    report: Report = quiet,
    warn: bool = False,
    search_seconds: float = SEARCH_SECONDS,
) -> tuple[Change, ...]:
    """Make the server what is declared and return the changes made; `warn` and `search_seconds` are those of `plan`.

    What waits for migrations is planned and applied again after them. `report` is told how far a migration is.

    Raises UsageError as plan does and while another one migrates, ApplyError before the first change when one is
    refused and at the first that fails.
    """
    made: tuple[Change, ...] = ()
    with _connect.connect(settings) as connection:
        while True:
            search = _questions.Search(search_seconds)
            planned = _plan(connection, settings, declared, secrets, search, warn=warn)
            try:
                done = run(
                    connection, settings, planned,
                    allow_destructive=allow_destructive, on_change=on_change, report=report,
                )  # fmt: skip
            except ApplyError as error:
                raise ApplyError(str(error), made + error.applied) from error.__cause__
            made += done
            if not any(change.kind == "migration" and change.risk is not Risk.SAFE for change in done):
                return made


def run(
    connection: _connect.Client,
    settings: MongoDBSettings,
    planned: Plan,
    *,
    allow_destructive: bool = False,
    on_change: OnChange = quiet,
    report: Report = quiet,
    pace: Pace = Pace(),  # noqa: B008 - frozen
) -> tuple[Change, ...]:
    """Run a plan, under the lock of the migrations if it has one, and return the changes made.

    Raises ApplyError when a change is refused or fails, UsageError while another one migrates.
    """
    with ExitStack() as stack:
        migrator: Migrator | None = None
        migrates = any(isinstance(change.operation, statements.RunMigration) for change in planned)
        if migrates and not any(change.refused for change in planned):
            lock = stack.enter_context(MigrationLock(connection, settings.database, report))
            migrator = Migrator(connection, settings.database, lock, pace, report)

        def execute(change: Change) -> None:
            if migrator and isinstance(change.operation, statements.RunMigration):
                migrator.run(change.operation)
            else:
                _execute(connection, settings, change)

        return apply_plan(planned, execute, allow_destructive=allow_destructive, on_change=on_change)


def version(settings: MongoDBSettings) -> str:
    """Return the server's version, such as 6.0.5."""
    with _connect.connect(settings) as connection:
        return str(connection.admin.command("buildInfo")["version"])


def counts(settings: MongoDBSettings) -> dict[str, int]:
    """Return the number of documents of every collection of the database, by namespace ("chat.messages")."""
    with _connect.connect(settings) as connection:
        return _inspect.counts(connection, settings.database)


def _plan(
    connection: _connect.Client,
    settings: MongoDBSettings,
    declared: Declared,
    secrets: Mapping[str, str],
    search: _questions.Search,
    *,
    warn: bool,
) -> Plan:
    wanted = {name: secrets.get(name, "") for name in users(declared)}
    missing = [name for name, password in wanted.items() if not password]
    if missing:
        raise UsageError(f"no password for the MongoDB user {', '.join(missing)}; run: dbkeep init")
    parameters = [parameter.name for parameter in declared.parameters]
    live = _inspect.inspect(connection, settings, wanted, parameters)
    findings = _questions.ask(connection, declared, live, search)
    return Plan(statements.ENGINE, tuple(_diff.diff(declared, live, findings, wanted, warn=warn)))


def _execute(connection: _connect.Client, settings: MongoDBSettings, change: Change) -> None:
    for command in change.operation:
        try:
            _run(connection, settings, command)
        except ConnectionFailure as error:
            lost = f"lost the primary: {_connect.describe(error)}"
            raise DbkeepError(f"{lost}; when the replica set has one, run the same command again") from None
        except PyMongoError as error:
            raise DbkeepError(_connect.describe(error)) from None


def _run(
    connection: _connect.Client, settings: MongoDBSettings, command: statements.Command | statements.Reconfiguration
) -> None:
    if isinstance(command, statements.Reconfiguration):
        _members.reconfigure(connection, settings, command)
        return
    if command.member in {None, connection.admin.command("hello")["me"]}:
        connection[command.database].command(command.document)
        return
    with _inspect.member_client(settings, command.member) as member:
        member[command.database].command(command.document)
