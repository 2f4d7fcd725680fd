"""Makes a Change of PostgreSQL out of its statements."""

from __future__ import annotations

from typing import Any

from dbkeep.plan import Change, Risk
from dbkeep.postgresql.connect import MAINTENANCE
from dbkeep.postgresql.statements import Operation, Statement

# Stands for the managed database.
MANAGED = ""


def change(
    kind: str,
    target: str,
    summary: str,
    *run: Statement,
    shown: str | None = None,
    before: Any = None,
    after: Any = None,
    risk: Risk = Risk.SAFE,
    refused: str | None = None,
    database: str = MAINTENANCE,
    transaction: bool = True,
    where: str = "",
) -> Change:
    """Return the change that runs the statements `run` in `database`.

    `shown` replaces their text where they hold a secret; `where` is the file and line that declare them.
    """
    operation = Operation(database, run, transaction, where)
    return Change(
        engine="postgresql", kind=kind, target=target, summary=summary, operation=operation, before=before, after=after,
        statement=operation.text() if shown is None else shown, risk=risk, refused=refused,
    )  # fmt: skip
