"""Plan and apply: one loop, nothing half-told."""

import pytest

from dbkeep.errors import DbkeepError
from dbkeep.plan import ApplyError, Change, Plan, Risk, apply, hold_back


def change(target: str, risk: Risk = Risk.SAFE, refused: str | None = None, waits_for: str | None = None) -> Change:
    return Change(
        engine="redis",
        kind="setting",
        target=target,
        summary="differs",
        statement=f"CONFIG SET {target} (hidden)",
        operation=("CONFIG", "SET", target, "a secret"),
        risk=risk,
        refused=refused,
        waits_for=waits_for,
    )


def test_apply_runs_every_change_in_order() -> None:
    seen: list[str] = []
    made = apply(Plan("redis", (change("a"), change("b"))), lambda c: seen.append(c.target))
    assert seen == ["a", "b"]
    assert [c.target for c in made] == ["a", "b"]


def test_destructive_changes_wait_for_their_flag() -> None:
    plan = Plan("redis", (change("a"), change("b", Risk.DESTRUCTIVE)))
    seen: list[str] = []
    apply(plan, lambda c: seen.append(c.target))
    assert seen == ["a"]
    apply(plan, lambda c: seen.append(c.target), allow_destructive=True)
    assert seen == ["a", "a", "b"]


def test_hold_back_splits_a_plan_without_losing_a_change() -> None:
    plan = Plan("redis", (change("a"), change("b", Risk.DESTRUCTIVE), change("c", Risk.LOCKING)))
    runnable, held = hold_back(plan, allow_destructive=False)
    assert ([c.target for c in runnable], [c.target for c in held]) == (["a", "c"], ["b"])


def test_a_change_that_waits_stays_in_the_plan_and_keeps_no_other_from_running() -> None:
    plan = Plan("redis", (change("a", waits_for="a restart"), change("b")))
    assert [c.target for c in apply(plan, lambda _: None, allow_destructive=True)] == ["b"]
    _, held = hold_back(plan, allow_destructive=True)
    assert [c.as_json()["waits_for"] for c in held] == ["a restart"]


def test_a_refused_change_stops_the_plan_before_its_first_change() -> None:
    seen: list[str] = []
    plan = Plan("redis", (change("a"), change("b", refused="3 documents break it")))
    with pytest.raises(ApplyError, match="redis setting b: 3 documents break it"):
        apply(plan, lambda c: seen.append(c.target))
    assert seen == []


def test_a_failure_says_what_is_in_place() -> None:
    def execute(item: Change) -> None:
        if item.target == "b":
            raise DbkeepError("connection lost")

    with pytest.raises(ApplyError, match="redis setting b: connection lost") as caught:
        apply(Plan("redis", (change("a"), change("b"), change("c"))), execute)
    assert [c.target for c in caught.value.applied] == ["a"]


def test_no_rendering_shows_the_operation() -> None:
    item = change("a")
    assert "a secret" not in repr(item)
    assert "a secret" not in str(item.as_json())


def test_an_empty_plan_is_false() -> None:
    assert not Plan("redis")
    assert Plan("redis", (change("a"),))
