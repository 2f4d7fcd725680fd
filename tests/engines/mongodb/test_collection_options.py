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
KINDS: dict[str, dict[str, Any]] = {
    "capped": {"capped": {"size_bytes": 1_048_576, "documents": 1000}},
    "series": {"time_series": {"time_field": "at", "meta_field": "place"}, "expire_after_seconds": 86_400},
    "clustered": {"clustered": True, "expire_after_seconds": 86_400},
    "collated": {"collation": {"locale": "en", "strength": 2}, "indexes": [INDEX]},
    "collated_index": {"indexes": [INDEX | {"collation": {"locale": "de", "numericOrdering": True}}]},
    "sparse_index": {"indexes": [INDEX | {"sparse": True, "unique": True}]},
    "imaged": {"pre_and_post_images": True},
}


class Break(NamedTuple):
    part: str
    collection: str
    commands: tuple[dict[str, Any], ...]
    risk: Risk = Risk.SAFE
    refused: bool = False


def changed(part: str, collection: str, options: dict[str, Any], risk: Risk = Risk.SAFE, **more: Any) -> Break:
    return Break(part, collection, ({"collMod": collection, **options},), risk, **more)


def made_again(part: str, collection: str, options: dict[str, Any]) -> Break:
    return Break(part, collection, ({"drop": collection}, {"create": collection, **options}), refused=True)


LOSES = Risk.DESTRUCTIVE
BY_PLACE = {"timeField": "at", "metaField": "place", "granularity": "seconds"}
KEPT = {"expireAfterSeconds": 86_400}
BREAKS = {
    "capped: larger": changed("Capped.size_bytes", "capped", {"cappedSize": 2_097_152}, LOSES),
    "capped: smaller": changed("Capped.size_bytes", "capped", {"cappedSize": 4096}),
    "capped: more documents": changed("Capped.documents", "capped", {"cappedMax": 2000}, LOSES),
    "capped: fewer documents": changed("Capped.documents", "capped", {"cappedMax": 10}),
    "capped: no more": made_again("Collection.capped", "capped", {}),
    "time series: kept longer": changed(
        "Collection.expire_after_seconds", "series", {"expireAfterSeconds": 604_800}, LOSES
    ),
    "time series: kept for ever": changed(
        "Collection.expire_after_seconds", "series", {"expireAfterSeconds": "off"}, LOSES
    ),
    "time series: kept shorter": changed("Collection.expire_after_seconds", "series", {"expireAfterSeconds": 3600}),
    "time series: coarser": changed(
        "TimeSeries.granularity", "series", {"timeseries": {"granularity": "hours"}}, refused=True
    ),
    "time series: by another time": made_again(
        "TimeSeries.time_field", "series", {"timeseries": BY_PLACE | {"timeField": "then"}, **KEPT}
    ),
    "time series: of no place": made_again(
        "TimeSeries.meta_field", "series", {"timeseries": {"timeField": "at"}, **KEPT}
    ),
    "time series: a collection": made_again("Collection.time_series", "series", {}),
    "clustered: kept for ever": changed(
        "Collection.expire_after_seconds", "clustered", {"expireAfterSeconds": "off"}, LOSES
    ),
    "clustered: no more": made_again("Collection.clustered", "clustered", {}),
    "collated: otherwise": made_again(
        "Collection.collation", "collated", {"collation": {"locale": "en", "strength": 1}}
    ),
    "collated: no more": made_again("Collection.collation", "collated", {}),
    "images: no more": changed(
        "Collection.pre_and_post_images", "imaged", {"changeStreamPreAndPostImages": {"enabled": False}}
    ),
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
    for command in case.commands:
        administrator["chat"].command(command)
    changes = [change for change in engine.plan(*server) if change.kind == "collection"]
    assert [(change.target, change.risk) for change in changes] == [(f"chat.{case.collection}", case.risk)]
    if case.refused:
        with pytest.raises(ApplyError, match=r"cannot be changed in place|its name is taken"):
            engine.apply(*server)
        administrator["chat"].drop_collection(case.collection)
        engine.apply(*server)
        return
    if case.risk is Risk.DESTRUCTIVE:
        assert engine.apply(*server) == ()
    engine.apply(*server, allow_destructive=True)
    assert list(engine.plan(*server)) == []
