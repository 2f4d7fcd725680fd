"""What the benchmark measures, as far as it does not depend on the machine."""

from __future__ import annotations

import runpy
from pathlib import Path

BENCH = Path(__file__).parents[3] / "bench" / "plan_postgresql.py"


def test_a_plan_sends_as_many_queries_for_many_tables_as_for_few(servers: Path) -> None:
    queries = runpy.run_path(str(BENCH))["queries_of_a_plan"]
    assert queries(servers / "few", 10) == queries(servers / "many", 40) > 0
