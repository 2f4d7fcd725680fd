"""Whether two policies let the same rows through, and whether two samples differ: pure functions of the prover."""

from __future__ import annotations

import random

import pytest

from dbkeep.postgresql.prove.mutants.logic import Formula, both, either, parse, same
from dbkeep.postgresql.prove.probes.timing import rank_test

OWN = "(user_id = ( SELECT chat.current_user_id() AS current_user_id))"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (OWN, OWN, True),
        (OWN, f"({OWN} OR chat.can_see(user_id))", False),
        (f"({OWN} OR ({OWN} AND (type = 'a) OR (b'::text)))", OWN, True),
        ("(NOT revoked)", "revoked", False),
        ("((NOT revoked) OR true)", "true", True),
        ("(a OR (NOT a))", "true", False),
        ("(a AND b)", "(b AND a)", True),
        ("((a AND b) OR (a AND c))", "(a AND (b OR c))", True),
        ("(a AND (b OR c))", "((a AND b) OR c)", False),
        ('("odd name ( OR " = 1)', '("odd name ( OR " = 1)', True),
    ],
)
def test_same_rows(one: str, other: str, equal: bool) -> None:
    assert same(parse(one), parse(other)) is equal


def test_null_lets_no_row_through() -> None:
    a = Formula("atom", atom="a")
    assert not same(either(a, Formula("not", (a,))), both())


def test_without_a_policy_there_are_no_rows() -> None:
    assert same(either(), parse("false"))
    assert same(both(), parse("true"))


def test_rank_test_sees_a_shift_and_no_noise() -> None:
    chance = random.Random(7)  # noqa: S311 - no secret
    slow = [chance.gauss(1.2, 0.2) for _ in range(2000)]
    quick, again = ([chance.gauss(1.0, 0.2) for _ in range(2000)] for _ in range(2))
    larger, by_chance = rank_test(slow, quick)
    assert larger > 0.7
    assert by_chance < 0.001
    larger, by_chance = rank_test(quick, again)
    assert abs(larger - 0.5) < 0.03
    assert by_chance > 0.001


def test_rank_test_shares_the_ranks_of_equal_values() -> None:
    larger, by_chance = rank_test([1.0] * 50, [1.0] * 50)
    assert larger == 0.5
    assert by_chance == 1.0
