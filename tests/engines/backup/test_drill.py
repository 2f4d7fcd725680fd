"""A drill attacks its copies as every role, and finds a set that restores to less safety than is declared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup.drill import drill

from .conftest import Site
from .declared_site import claimed, make_declared_site


@pytest.fixture(scope="module")
def declared_site(folder: Path) -> Iterator[Site]:
    with make_declared_site(folder) as site:
        yield site


def failures(evidence: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        engine: ([result["error"]] if result["error"] else [])
        + [(a["what"], a["observed"]) for a in result["assertions"] if not a["holds"]]
        for engine, result in evidence["observed"]["engines"].items()
    }


@pytest.mark.long
def test_every_right_is_proved_again_on_the_copies(declared_site: Site) -> None:
    declared_site.take()
    evidence = drill(declared_site.host, "newest", None, declared_site.identity, claimed=claimed())
    assert failures(evidence) == {"postgresql": [], "mongodb": [], "redis": []}
    application = evidence["observed"]["application"]
    assert (application["error"], len(application["assertions"]), application["passed"]) == (None, 2, True)
    damages = ("another passphrase", "another identity", "a flipped byte", "a truncated file", "a missing file")
    for engine, result in evidence["observed"]["engines"].items():
        refused = [a["what"] for a in result["assertions"] if a["what"].startswith(damages)]
        assert len(refused) == (4 if engine == "postgresql" else 5), refused
    assert evidence["observed"]["references"]["dangling"] == 0
    assert all(result["attacked"] for result in evidence["observed"]["engines"].values())
    assert evidence["result"] == "passed"
