"""MongoDB: declared state, plan and apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pymongo.errors import ConnectionFailure, PyMongoError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb import connect as _connect
from dbkeep.mongodb import declared as _declared
from dbkeep.mongodb import diff as _diff
from dbkeep.mongodb import inspect as _inspect
from dbkeep.mongodb import members as _members
from dbkeep.mongodb import questions as _questions
from dbkeep.mongodb import statements
from dbkeep.mongodb.models import Declared
from dbkeep.plan import Change, Plan
from dbkeep.plan import apply as apply_plan
from dbkeep.settings import MongoDBSettings

__all__ = ["Declared", "apply", "counts", "plan", "read_declared", "users", "version"]

SEARCH_SECONDS = 60


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
    on_change: Callable[[Change], None] = lambda _: None,
    warn: bool = False,
    search_seconds: float = SEARCH_SECONDS,
) -> tuple[Change, ...]:
    """Make the server what is declared and return the changes made; `warn` and `search_seconds` are those of `plan`.

    Raises UsageError as plan does, ApplyError before the first change when one is refused and at the first that fails.
    """
    with _connect.connect(settings) as connection:
        planned = _plan(connection, settings, declared, secrets, _questions.Search(search_seconds), warn=warn)

        def execute(change: Change) -> None:
            for command in change.operation:
                try:
                    _run(connection, settings, command)
                except ConnectionFailure as error:
                    lost = f"lost the primary: {_connect.describe(error)}"
                    raise DbkeepError(f"{lost}; when the replica set has one, run the same command again") from None
                except PyMongoError as error:
                    raise DbkeepError(_connect.describe(error)) from None

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
