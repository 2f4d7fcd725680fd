"""MongoDB: declared state, plan and apply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pymongo.errors import PyMongoError

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb import connect as _connect
from dbkeep.mongodb import declared as _declared
from dbkeep.mongodb import diff as _diff
from dbkeep.mongodb import index_diff, statements
from dbkeep.mongodb import inspect as _inspect
from dbkeep.mongodb.declared import Declared
from dbkeep.plan import Change, Plan
from dbkeep.plan import apply as apply_plan
from dbkeep.settings import MongoDBSettings

__all__ = ["Declared", "apply", "counts", "plan", "read_declared", "users", "version"]


def read_declared(root: Path) -> Declared:
    """Return the declared state of the checkout at `root`. Raises DeclaredError."""
    return _declared.read(root)


def users(declared: Declared) -> list[str]:
    """Return the users that need a password from the vault."""
    return [user.name for user in declared.users]


def plan(settings: MongoDBSettings, declared: Declared, secrets: Mapping[str, str]) -> Plan:
    """Return how the server differs from `declared` and from the passwords in `secrets` (user: password).

    Raises UsageError when a password is missing or no usable server answers.
    """
    with _connect.connect(settings) as connection:
        return _plan(connection, settings, declared, secrets)


def apply(
    settings: MongoDBSettings,
    declared: Declared,
    secrets: Mapping[str, str],
    *,
    allow_destructive: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Make the server what is declared and return the changes made.

    Raises UsageError as plan does, ApplyError before the first change when one is refused and at the first that fails.
    """
    with _connect.connect(settings) as connection:
        planned = _plan(connection, settings, declared, secrets)

        def execute(change: Change) -> None:
            for command in change.operation:
                try:
                    connection[command.database].command(command.document)
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
    connection: _connect.Client, settings: MongoDBSettings, declared: Declared, secrets: Mapping[str, str]
) -> Plan:
    wanted = {name: secrets.get(name, "") for name in users(declared)}
    missing = [name for name, password in wanted.items() if not password]
    if missing:
        raise UsageError(f"no password for the MongoDB user {', '.join(missing)}; run: dbkeep init")
    live = _inspect.inspect(connection, settings, wanted)
    findings = _findings(connection, declared, live)
    return Plan(statements.ENGINE, tuple(_diff.diff(declared, live, findings, wanted)))


def _findings(connection: _connect.Client, declared: Declared, live: _inspect.Live) -> _diff.Findings:
    """Ask the documents about what would change for them, and only about that."""
    violations, expiring = {}, set()
    for collection in declared.collections:
        present = live.collections.get(collection.name)
        if present is None or present.empty or present.type != "collection":
            continue
        if _diff.validation_differs(collection, present):
            violations[collection.name] = _inspect.violations(
                connection, declared.database, collection.name, collection.validator
            )
        for index in collection.indexes:
            if index.expire_after_seconds is None or _is_live(index, present):
                continue
            path, seconds = index.fields[0][0], index.expire_after_seconds
            if _inspect.holds_expired(connection, declared.database, collection.name, path, seconds):
                expiring.add((collection.name, index.name))
    return _diff.Findings(violations, frozenset(expiring))


def _is_live(index: _declared.Index, present: _inspect.LiveCollection) -> bool:
    same = present.indexes.get(index.name)
    wanted = index_diff.comparable(statements.index_specification(index))
    return same is not None and index_diff.comparable(same) == wanted
