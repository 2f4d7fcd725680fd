"""The search for documents that break their validator: bounded, going on, and never passing what it has not seen."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bson import ObjectId

from dbkeep.checks.facts import compliance
from dbkeep.checks.facts.compliance import Compliance, complaint
from dbkeep.mongodb.connect import Client, connect
from dbkeep.sandbox import mongodb

VALIDATOR = {"$jsonSchema": {"bsonType": "object", "properties": {"n": {"bsonType": "int"}}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with mongodb.start(tmp_path_factory.mktemp("server")) as settings, connect(settings) as client:
        yield client


@pytest.fixture
def things(server: Client) -> Any:
    server["chat"].drop_collection("things")
    server["chat"].create_collection("things")
    return server["chat"]["things"]


@pytest.fixture
def three_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever somebody looks: four seconds are three steps."""
    ticks = itertools.count()
    monkeypatch.setattr(compliance, "time", SimpleNamespace(monotonic=lambda: next(ticks), time=time.time))


def search(things: Any, place: Path, **options: Any) -> dict[str, Any]:
    """One call of the agent."""
    every = Compliance(place, **options)
    found = every.search(things, info(things))
    every.remember()
    return found


def info(things: Any, validator: dict[str, Any] = VALIDATOR) -> dict[str, Any]:
    """What the server says of the collection, as if it had the validator."""
    (found,) = things.database.list_collections(filter={"name": things.name})
    return {**found, "options": {"validator": validator}}


def test_a_collection_that_is_searched_in_one_call_passes_or_names_a_document(things: Any, tmp_path: Path) -> None:
    place = tmp_path / "documents.json"
    assert complaint(search(things, place)) is None
    # A document whose _id is of another type than the others', on either side of them in the index.
    for _id in (1, "text", {"a": 1}, ObjectId()):
        things.insert_many([{"n": number} for number in range(25)])
        assert complaint(search(things, place, step=10)) is None
        things.insert_one({"_id": _id, "n": "one"})
        assert complaint(search(things, place, step=10)) == f"the document with _id {_id} breaks the validator"
        # It is still named when the next call looks, and no more when it is corrected.
        assert search(things, place, step=10)["breaking"] == str(_id)
        things.update_one({"_id": _id}, {"$set": {"n": 1}})
        assert complaint(search(things, place, step=10)) is None
    assert complaint(None) == "it has no validator"


@pytest.mark.usefixtures("three_steps")
def test_a_search_that_takes_several_calls_goes_on_and_does_not_pass_before_its_end(
    things: Any, tmp_path: Path
) -> None:
    place, options = tmp_path / "documents.json", {"step": 10, "seconds": 4}
    things.insert_many([{"_id": number, "n": number} for number in range(95)])
    for searched in (30, 60, 90):
        assert complaint(search(things, place, **options)) == (
            f"whether documents break the validator is not known, {searched} of about 95 are searched, "
            "the next check goes on there"
        )
    last = search(things, place, **options)
    assert (last["searched"], complaint(last)) == (95, None)

    # Begun anew: what was whole counts for a while, and what breaks is found when its turn comes.
    things.insert_one({"_id": 45.5, "n": "late"})
    first, second = (search(things, place, **options) for _ in range(2))
    assert (first["breaking"], first["searched"], complaint(first)) == (None, 30, None)
    assert complaint(first | {"age": 15 * 24 * 3600}) is not None
    assert complaint(second) == "the document with _id 45.5 breaks the validator"
    assert search(things, place, **options)["breaking"] == "45.5"


@pytest.mark.usefixtures("three_steps")
def test_another_validator_or_collection_and_a_lost_place_begin_anew(things: Any, tmp_path: Path) -> None:
    place = tmp_path / "documents.json"
    things.insert_many([{"_id": number, "n": number} for number in range(95)])
    options = {"step": 10, "seconds": 4}
    search(things, place, step=100, seconds=4)
    known = place.read_text(encoding="utf-8")
    other = Compliance(place, **options).search(things, info(things, {"$jsonSchema": {"bsonType": "object"}}))
    assert (other["searched"], other["age"]) == (30, None)
    documents = list(things.find())
    things.drop()
    things.insert_many(documents)
    restored = search(things, place, **options)
    assert (restored["searched"], restored["age"]) == (30, None)
    for damage in ("", known[:-10], "[1]", "null"):
        place.write_text(damage, encoding="utf-8")
        again = search(things, place, **options)
        assert (again["searched"], again["age"]) == (30, None)
        assert complaint(again) is not None


def test_what_the_server_cannot_do_in_time_or_at_all_is_not_known(things: Any, tmp_path: Path) -> None:
    things.insert_many([{"_id": number, "n": number} for number in range(50_000)])
    late = search(things, tmp_path / "documents.json", step=100_000, seconds=0.001)
    assert (late["breaking"], late["searched"], late["age"]) == (None, 0, None)
    assert "0 of about 50000 are searched" in (complaint(late) or "")

    odd = Compliance(tmp_path / "documents.json").search(things, info(things, {"$jsonSchema": {"bsonType": "odd"}}))
    assert "Unknown type name alias: odd" in (complaint(odd) or "")
