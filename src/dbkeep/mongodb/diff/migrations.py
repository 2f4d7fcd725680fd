"""How declared and applied migrations differ: pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dbkeep.mongodb.inspect import LiveCollection, LiveMigration
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.models import Declared, Migration
from dbkeep.mongodb.statements import ENGINE, RunMigration
from dbkeep.plan import Change, Risk


def migration_changes(
    declared: Declared, applied: Mapping[str, LiveMigration], collections: Mapping[str, LiveCollection]
) -> Iterator[Change]:
    """Yield the pending migrations in order, and refused ones where history and files contradict each other."""
    unknown = dict(applied)
    risk = Risk.REWRITING if _hold_documents(collections) else Risk.SAFE
    for migration in declared.migrations:
        live = unknown.pop(migration.id, None)
        if live is None:
            yield _run(migration, risk)
        elif live.back:
            reason = "taking it back was interrupted: run `dbkeep migrate down` again first"
            yield _refused(migration.id, "half taken back", live, reason)
        elif live.digest != migration.digest:
            reason = f"{migration.path} was edited after it was applied: restore it and add a new migration"
            yield _refused(migration.id, "edited", live, reason)
    for name, live in unknown.items():
        reason = "it was applied and its file is missing: use the checkout that holds it"
        yield _refused(name, "not declared", live, reason)


def taken_back(migration: Migration) -> Change:
    """Return the change that takes an applied migration back."""
    return Change(
        engine=ENGINE,
        kind="migration",
        target=migration.id,
        summary=f"take back: {migration.summary}",
        statement=migration.source,
        operation=RunMigration(migration, back=True),
        before=migration.digest,
        risk=Risk.DESTRUCTIVE,
    )


def _hold_documents(collections: Mapping[str, LiveCollection]) -> bool:
    """Without a document a migration has nothing to do but to be recorded."""
    return any(found.type != "view" and not found.empty for name, found in collections.items() if name != RECORDS)


def _run(migration: Migration, risk: Risk) -> Change:
    return Change(
        engine=ENGINE,
        kind="migration",
        target=migration.id,
        summary=f"run: {migration.summary}",
        statement=migration.source,
        operation=RunMigration(migration),
        after=migration.digest,
        risk=risk,
    )


def _refused(name: str, summary: str, live: LiveMigration, reason: str) -> Change:
    return Change(ENGINE, "migration", name, summary, "", None, before=live.digest, refused=reason)
