"""What a keyspace had at the fence follows from a sample after it and from what changed in between."""

from __future__ import annotations

from collections import Counter
from random import Random

from dbkeep.backup.key_changes import Changes
from dbkeep.backup.key_sample import Sample
from dbkeep.backup.manifest import Count

WHOLE = Sample({"state/sess:": 9, "state/pres:": 3}, 12, whole=True)


def test_where_nothing_changed_the_count_of_few_keys_is_exact() -> None:
    changes = Changes(70, saves=3).until(Changes(70, saves=3), keys=12)
    assert WHOLE.bounds(changes, 12) == {"state/pres:": Count(low=3, high=3), "state/sess:": Count(low=9, high=9)}
    assert WHOLE.unseen(changes, 12) == 0


def test_each_change_is_one_key_more_or_less_and_never_more_than_there_were() -> None:
    changes = Changes(70, saves=3).until(Changes(74, saves=3), keys=12)
    assert WHOLE.bounds(changes, 12) == {"state/pres:": Count(low=0, high=7), "state/sess:": Count(low=5, high=12)}
    assert WHOLE.unseen(changes, 12) == 4


def test_a_save_that_began_the_counter_anew_leaves_no_bound_but_all_keys() -> None:
    assert Changes(70, saves=3).until(Changes(2, saves=4), keys=12) == 12
    assert Sample({"state/sess:": 9}, 12, whole=True).bounds(12, 12) == {"state/sess:": Count(low=0, high=12)}


def test_bounds_from_a_sample_hold_and_are_a_small_part_of_all_keys() -> None:
    numbers = {"state/sess:": 70_000, "state/rl:": 29_990, "state/dbkeep:": 10}
    names = [name for name, number in numbers.items() for _ in range(number)]
    random = Random(7)  # noqa: S311 - the same sample each time
    for _ in range(20):
        sample = Sample(Counter(random.sample(names, 10_000)), len(names), whole=False)
        found = sample.bounds(0, len(names))
        for name, number in numbers.items():
            if name in found:
                assert found[name].holds(number)
                assert found[name].high - found[name].low < 8_000
            else:
                assert number <= sample.unseen(0, len(names)) < 4_000


def test_keys_that_expired_unseen_may_have_been_of_any_keyspace() -> None:
    """Of 10,000 keys in the table 1,000 had expired when the scan met them: 5,000 of 9,000 are 50 to 60 % of all."""
    sample = Sample({"state/sess:": 5000, "state/rl:": 4000}, 1_000_000, whole=False, during=1000)
    found = sample.bounds(0, 1_000_000)["state/sess:"]
    assert found.low < 500_000 - 30_000
    assert found.high > 600_000 + 30_000


def test_of_an_empty_sample_nothing_is_known() -> None:
    sample = Sample({}, 500, whole=False, during=20_000)
    assert (sample.bounds(0, 500), sample.unseen(0, 500)) == ({}, 500)
