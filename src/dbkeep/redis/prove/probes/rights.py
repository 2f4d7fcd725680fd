"""P10: the matrix as a probe: can each user do with each kind of key what is declared, and nothing else?"""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.prove.probe import Finding, require
from dbkeep.redis.prove import matrix
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.world import World


@probe(
    "P10", "Each user can do by each command with each kind of key what is declared, and nothing else", area="rights",
    sources=("STIG V-251188", "Redis manual: ACL DRYRUN", "Redis manual: ACL, Key permissions"),
)  # fmt: skip
def rights(world: World) -> Iterator[Finding]:
    """What a dry run says beyond that is no attempt's business: the matrix and C01 tell of it."""
    tried = 0
    for cell in matrix.observe(world):
        tried += len(cell.tried)
        beyond, short = cell.observed - cell.declared, cell.declared & cell.tried - cell.observed
        if beyond:
            yield Finding(cell.role, cell.target, f"possible and not declared: {', '.join(sorted(beyond))}")
        if short:
            yield Finding(cell.role, cell.target, f"declared and not possible: {', '.join(sorted(short))}")
    require(tried, "nothing could be tried")
