"""The pure diff of a replica set's members: what is missing, too many or not yet whole, in an order that is safe."""

from __future__ import annotations

import pytest

from dbkeep.mongodb.diff.members import member_changes
from dbkeep.mongodb.inspect import LiveMember
from dbkeep.mongodb.statements import COPY, FULL_MEMBER
from dbkeep.plan import Risk

A, B, C, D = (f"192.0.2.{number}:27017" for number in (1, 2, 3, 4))
WITHOUT_VOTE = FULL_MEMBER | COPY


def member(host: str, *, answers: bool = True, arbiter: bool = False, **options: object) -> LiveMember:
    return LiveMember(host, FULL_MEMBER | options, arbiter=arbiter, answers=answers)


@pytest.mark.parametrize(
    ("declared", "live", "steps"),
    [
        ((), [member(A), member(B)], []),
        ((A,), [member(A)], []),
        ((B, A), [member(A), member(B)], []),
        ((A, B, C), [member(A)], [("add", B), ("add", C), ("complete", B), ("complete", C)]),
        ((A, B), [member(A), member(B, **COPY)], [("complete", B)]),
        ((A, B), [member(A), member(B, priority=1.0)], []),
        ((A, B), [member(A), member(B, hidden=True)], [("complete", B)]),
        ((A,), [member(A), member(B)], [("remove", B)]),
        ((A, B, D), [member(A), member(B), member(C)], [("add", D), ("remove", C), ("complete", D)]),
    ],
    ids=[
        "none declared: left alone",
        "as declared",
        "in another order",
        "two more",
        "left without its vote by an interrupted run",
        "whole number as a double",
        "hidden by hand",
        "one too many",
        "one replaced",
    ],
)
def test_steps(declared: tuple[str, ...], live: list[LiveMember], steps: list[tuple[str, str]]) -> None:
    changes = list(member_changes(declared, live))
    assert [(step.verb, step.host) for change in changes for step in change.operation] == steps
    for change in changes:
        removes = change.operation[0].verb == "remove"
        assert change.risk is (Risk.DESTRUCTIVE if removes else Risk.SAFE)
        assert change.target in change.statement
        assert (change.refused, change.waits_for) == (None, None)


def test_a_removal_says_how_many_may_fail_afterwards() -> None:
    live = [member(A), member(B), member(C)]
    (one,) = member_changes((A, B), live)
    assert one.summary == "remove, the inventory does not name it; 2 votes stay, none of them may fail"
    first, second = member_changes((A,), live)
    assert "2 votes stay" in first.summary
    assert "1 vote stays" in second.summary
    more = [*live, member(D)]
    (one,) = member_changes((A, B, C), more)
    assert "3 votes stay, 1 of them may fail" in one.summary


def test_a_removal_waits_for_the_members_that_stay() -> None:
    live = [member(A), member(B, answers=False), member(C)]
    (removal,) = member_changes((A, B), live)
    assert removal.waits_for == "most of the 2 votes that stay to answer (1 do)"
    # The one that does not answer may go.
    (removal,) = member_changes((A, C), live)
    assert removal.waits_for is None


def test_an_arbiter_cannot_become_a_member_with_data() -> None:
    (change,) = member_changes((A, B), [member(A), member(B, arbiter=True, priority=0)])
    assert change.refused is not None
    assert change.refused.startswith("it is an arbiter, which holds no data; take it out of the inventory")
