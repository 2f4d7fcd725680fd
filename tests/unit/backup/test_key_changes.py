"""What a keyspace had at the fence follows from one count after it and from what changed in between."""

from __future__ import annotations

from dbkeep.backup.key_changes import Changes, bounds
from dbkeep.backup.manifest import Count


def test_where_nothing_changed_the_count_is_exact() -> None:
    changes = Changes(70, saves=3).until(Changes(70, saves=3), keys=12)
    assert bounds({"state/sess:": 9, "state/pres:": 3}, changes, 12) == {
        "state/pres:": Count(low=3, high=3), "state/sess:": Count(low=9, high=9)
    }  # fmt: skip


def test_each_change_is_one_key_more_or_less_and_never_more_than_there_were() -> None:
    changes = Changes(70, saves=3).until(Changes(74, saves=3), keys=12)
    assert bounds({"state/sess:": 9, "state/pres:": 3}, changes, 12) == {
        "state/pres:": Count(low=0, high=7), "state/sess:": Count(low=5, high=12)
    }  # fmt: skip


def test_a_save_that_began_the_counter_anew_leaves_no_bound_but_all_keys() -> None:
    assert Changes(70, saves=3).until(Changes(2, saves=4), keys=12) == 12
    assert bounds({"state/sess:": 9}, 12, 12) == {"state/sess:": Count(low=0, high=12)}
