"""How the members that the inventory names and those of the live replica set differ: pure, no I/O.

First come copies, then members go, then copies get a vote: the set never has fewer votes than it must, and one that is
replaced goes when another one has its data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbkeep.mongodb import normalise
from dbkeep.mongodb.inspect import LiveMember
from dbkeep.mongodb.statements import COPY, FULL_MEMBER, Reconfiguration, change
from dbkeep.plan import Change, Risk

KIND = "replica set member"


def member_changes(declared: Sequence[str], live: Sequence[LiveMember]) -> Iterator[Change]:
    """Yield the steps that make `live` the declared members ("host:port"), or none where no member is declared."""
    if not declared:
        return
    present = {member.host: member for member in live}
    for host in declared:
        if host not in present:
            steps = [Reconfiguration("add", host)]
            yield change(KIND, host, "add as a copy without a vote", steps, after=COPY)
    staying = list(live)
    for member in live:
        if member.host not in declared:
            staying.remove(member)
            yield _removal(member, staying)
    for host in declared:
        yield from _completion(host, present.get(host))


def _removal(member: LiveMember, staying: Sequence[LiveMember]) -> Change:
    """Return what takes a member out; `staying` are the members after that."""
    votes = sum(other.options["votes"] for other in staying)
    answering = sum(other.options["votes"] for other in staying if other.answers)
    may_fail = "none of them may fail" if votes < 3 else f"{(votes - 1) // 2} of them may fail"
    waits_for = None
    if answering <= votes // 2:
        waits_for = f"most of the {votes} votes that stay to answer ({answering} do)"
    return change(
        KIND,
        member.host,
        f"remove, the inventory does not name it; {votes} vote{'s stay' if votes != 1 else ' stays'}, {may_fail}",
        [Reconfiguration("remove", member.host)],
        before=member.options,
        risk=Risk.DESTRUCTIVE,
        waits_for=waits_for,
    )


def _completion(host: str, present: LiveMember | None) -> Iterator[Change]:
    before = present.options if present else COPY
    if normalise.exact(before) == normalise.exact(FULL_MEMBER):
        return
    refused = None
    if present and present.arbiter:
        refused = "it is an arbiter, which holds no data; take it out of the inventory, apply, and put it back"
    steps = [Reconfiguration("complete", host)]
    summary = "give it its vote once it has a copy of the data"
    yield change(KIND, host, summary, steps, before=before, after=FULL_MEMBER, refused=refused)
