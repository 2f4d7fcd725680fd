"""P58: the matrix as a probe: can each role do with each relation what is declared, and nothing else?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.postgresql.prove import matrix
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require


@probe(
    "P58", "Each role can do with each relation and column what is declared, and nothing else", area="write",
    sources=("CIS PostgreSQL 17 4.6", "CIS PostgreSQL 17 4.8", "PostgreSQL manual 5.8 Privileges"),
)  # fmt: skip
def privileges(world: World) -> Iterator[Finding]:
    """What is granted and cannot be used is no attempt's business: the matrix and C03 tell of it."""
    possible = 0
    for cell in matrix.observe(world):
        if cell.observed is None:
            continue
        possible += len(cell.observed)
        target = f"{cell.privilege} {cell.relation}"
        beyond, short = cell.observed - cell.declared, cell.declared - cell.observed
        if beyond:
            yield Finding(cell.role, target, f"possible and not declared: {', '.join(sorted(beyond))}")
        # An owner without USAGE on the schema cannot reach even its own.
        if short and cell.role in world.login_roles:
            yield Finding(cell.role, target, f"declared and not possible: {', '.join(sorted(short))}")
    require(possible, "no role can do anything")
