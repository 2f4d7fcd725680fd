"""Records of evidence come newest first, and one of a time to come hides none of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dbkeep.evidence import STAMP, read_all


def test_a_record_of_a_clock_that_was_ahead_is_not_the_newest(tmp_path: Path) -> None:
    present = datetime.now(UTC)
    for name, moment in (("old", -2), ("newest", -1), ("ahead", 48)):
        path = tmp_path / f"drill-{present + timedelta(hours=moment):{STAMP}}.json"
        path.write_text(json.dumps({"name": name}))
    assert [found["name"] for found in read_all("drill", tmp_path)] == ["newest", "old", "ahead"]
