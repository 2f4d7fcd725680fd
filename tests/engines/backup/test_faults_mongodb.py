"""What happens to MongoDB during a dump: shapes change, collections and primaries go. The dump is good or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dbkeep.backup import mongodb as engine
from dbkeep.backup.drill import drill
from dbkeep.backup.manifest import Part
from dbkeep.backup.sealed_file import seal
from dbkeep.backup.verify import verify
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import Client
from dbkeep.mongodb.connect import connect as mongodb

from .conftest import Site

Act = Callable[[Client], Any]


@pytest.fixture
def during_the_dump(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Gives a function that makes the dump pause at its first documents, `times` times, for something to happen."""

    def arrange(act: Act, times: int = 1) -> list[int]:
        done: list[int] = []

        def interrupted(chunks: Iterable[bytes]) -> Iterator[bytes]:
            for number, chunk in enumerate(chunks):
                if number == 1 and len(done) < times:
                    done.append(number)
                    assert site.host.mongodb is not None
                    with mongodb(site.host.mongodb) as client:
                        act(client)
                yield chunk

        def sealed(chunks: Iterable[bytes], path: Path, recipients: tuple[str, ...]) -> Any:
            return seal(interrupted(chunks), path, recipients)

        monkeypatch.setattr(engine, "seal", sealed)
        return done

    return arrange


@pytest.fixture
def extra(site: Site) -> Iterator[str]:
    """A collection of 100 documents that is dumped after the others."""
    assert site.host.mongodb is not None
    with mongodb(site.host.mongodb) as client:
        client["chat"]["zebras"].insert_many([{"n": n, "m": n % 3} for n in range(100)])
        yield "chat.zebras"
        client["chat"]["zebras"].drop()
        client["chat"]["yaks"].drop()


def assert_proved(site: Site, part: Part) -> None:
    evidence = drill(site.host, part.set_id, ["mongodb"], site.identity)
    result = evidence["observed"]["engines"]["mongodb"]
    assert result["passed"], result["error"] or [a for a in result["assertions"] if not a["holds"]]


def zebras(client: Client, **change: Any) -> None:
    client["chat"].command({"collMod": "zebras", **change})


CHANGES: dict[str, tuple[Act, int | None]] = {
    "a validator": (lambda c: zebras(c, validator={"n": {"$gte": 0}}), 100),
    "an index is built": (lambda c: c["chat"]["zebras"].create_index("n", name="late"), 100),
    "an index is dropped": (lambda c: c["chat"]["messages"].drop_index("by_n"), 100),
    "a collection is dropped": (lambda c: c["chat"]["zebras"].drop(), None),
    "a collection is renamed": (lambda c: c["chat"]["zebras"].rename("yaks"), None),
    "a collection is made anew": (
        lambda c: (c["chat"]["zebras"].drop(), c["chat"]["zebras"].insert_one({"n": 1})),
        1,
    ),
    "a collection is made": (lambda c: c["chat"]["yaks"].insert_one({"n": 1}), 100),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_during_a_dump_is_in_it_or_not_but_never_half(
    site: Site, extra: str, during_the_dump: Callable[..., list[int]], change: str
) -> None:
    before = site.take(("mongodb",))["mongodb"]
    act, documents = CHANGES[change]
    done = during_the_dump(act)
    part = site.take(("mongodb",))["mongodb"]
    assert done
    count = part.counts.get(extra)
    assert (count.low if count else None) == documents
    assert_proved(site, part)
    assert verify(site.host, before.set_id)["ok"]
    assert site.host.mongodb is not None
    with mongodb(site.host.mongodb) as client:
        client["chat"]["messages"].create_index([("n", -1), ("content", 1)], name="by_n", unique=True)


@pytest.mark.usefixtures("extra")
def test_collections_that_never_rest_are_said_and_the_next_run_is_good(
    site: Site, during_the_dump: Callable[..., list[int]]
) -> None:
    before = site.take(("mongodb",))["mongodb"]

    def make_anew(client: Client) -> None:
        client["chat"]["zebras"].drop()
        client["chat"]["zebras"].insert_one({"n": 1})

    during_the_dump(make_anew, times=99)
    with pytest.raises(
        DbkeepError, match=r"mongodb: 3 dumps were interrupted, the last because .*; run the"
    ) as refused:
        site.take(("mongodb",))
    assert "\n" not in str(refused.value)
    assert verify(site.host, before.set_id)["ok"]
    during_the_dump(make_anew, times=0)
    assert_proved(site, site.take(("mongodb",))["mongodb"])
