"""Collections of every kind that can be declared: made, found as declared, broken, mended or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from dbkeep import mongodb as engine
from dbkeep.mongodb.connect import Client
from dbkeep.mongodb.models import Collection, Declared
from dbkeep.plan import ApplyError, Risk
from dbkeep.settings import MongoDBSettings

SCHEMA = {
    "bsonType": "object",
    "additionalProperties": False,
    "properties": {
        "_id": {"bsonType": ["objectId", "date"]},
        "at": {"bsonType": "date"},
        "place": {"bsonType": "string", "maxLength": 20},
    },
}
INDEX = {"name": "place", "query": "by place", "keys": [{"place": 1}]}
KINDS = {
    "capped": {"capped": {"size_bytes": 1_048_576, "documents": 1000}},
    "series": {"time_series": {"time_field": "at", "meta_field": "place"}, "expire_after_seconds": 86_400},
    "clustered": {"clustered": True, "expire_after_seconds": 86_400},
    "collated": {"collation": {"locale": "en", "strength": 2}, "indexes": [INDEX]},
    "collated_index": {"indexes": [INDEX | {"collation": {"locale": "de", "numericOrdering": True}}]},
    "sparse_index": {"indexes": [INDEX | {"sparse": True, "unique": True}]},
    "imaged": {"pre_and_post_images": True},
}


class Break(NamedTuple):
    collection: str
    command: dict[str, Any]
    risk: Risk = Risk.SAFE
    refused: bool = False


BREAKS = {
    "capped: larger": Break("capped", {"collMod": "capped", "cappedSize": 2_097_152}, Risk.DESTRUCTIVE),
    "capped: smaller": Break("capped", {"collMod": "capped", "cappedSize": 4096}),
    "capped: more documents": Break("capped", {"collMod": "capped", "cappedMax": 2000}, Risk.DESTRUCTIVE),
    "capped: fewer documents": Break("capped", {"collMod": "capped", "cappedMax": 10}),
    "time series: kept longer": Break("series", {"collMod": "series", "expireAfterSeconds": 604_800}, Risk.DESTRUCTIVE),
    "time series: kept for ever": Break("series", {"collMod": "series", "expireAfterSeconds": "off"}, Risk.DESTRUCTIVE),
    "time series: kept shorter": Break("series", {"collMod": "series", "expireAfterSeconds": 3600}),
    "time series: coarser": Break(
        "series", {"collMod": "series", "timeseries": {"granularity": "hours"}}, refused=True
    ),
    "clustered: kept for ever": Break(
        "clustered", {"collMod": "clustered", "expireAfterSeconds": "off"}, Risk.DESTRUCTIVE
    ),
    "images: no more": Break("imaged", {"collMod": "imaged", "changeStreamPreAndPostImages": {"enabled": False}}),
}


@pytest.fixture(scope="module")
def every(declared: Declared) -> Declared:
    made = [Collection.model_validate({"name": name, "json_schema": SCHEMA, **kind}) for name, kind in KINDS.items()]
    return declared.model_copy(update={"collections": (*declared.collections, *made)})


@pytest.fixture(scope="module")
def server(
    settings: MongoDBSettings, every: Declared, passwords: dict[str, str], administrator: Client
) -> Iterator[tuple[MongoDBSettings, Declared, dict[str, str]]]:
    engine.apply(settings, every, passwords)
    yield settings, every, passwords
    for name in KINDS:
        administrator["chat"].drop_collection(name)


def test_what_the_server_adds_to_options_is_no_difference(
    server: tuple[MongoDBSettings, Declared, dict[str, str]],
) -> None:
    assert [(change.target, change.summary) for change in engine.plan(*server)] == []


@pytest.mark.parametrize("case", BREAKS.values(), ids=BREAKS)
def test_options_that_were_changed_are_named_and_mended(
    server: tuple[MongoDBSettings, Declared, dict[str, str]], administrator: Client, case: Break
) -> None:
    administrator["chat"].command(case.command)
    (change,) = engine.plan(*server)
    assert (change.kind, change.target, change.risk) == ("collection", f"chat.{case.collection}", case.risk)
    if case.refused:
        with pytest.raises(ApplyError, match="cannot be changed in place"):
            engine.apply(*server)
        administrator["chat"].drop_collection(case.collection)
        engine.apply(*server)
        return
    if case.risk is Risk.DESTRUCTIVE:
        assert engine.apply(*server) == ()
    engine.apply(*server, allow_destructive=True)
    assert list(engine.plan(*server)) == []
