"""The pure diff, case by case from diff.yml."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbkeep.mongodb.diff import diff
from dbkeep.mongodb.findings import Findings, Offenders
from dbkeep.mongodb.inspect import Live, LiveCollection, LiveMigration, LiveParameter, LiveRole, LiveUser
from dbkeep.mongodb.models import Declared, Migration

Case = dict[str, Any]
CASES: list[Case] = yaml.safe_load(Path(__file__).with_name("diff.yml").read_text(encoding="utf-8"))
PASSWORD = "never-shown"
APPLIED_AT = datetime(2026, 1, 1, tzinfo=UTC)

SCHEMA = {
    "bsonType": "object",
    "additionalProperties": False,
    "properties": {
        "_id": {"bsonType": "objectId"},
        "name": {"bsonType": "string", "maxLength": 9},
        "made_at": {"bsonType": "date"},
    },
}
MIGRATION = Migration(
    id="0001_name_all",
    path="mongo/migrations/0001_name_all.py",
    summary="Every thing has a name.",
    source="def up(documents): ...",
)
DECLARED = Declared.model_validate(
    {
        "collections": [
            {
                "name": "things",
                "json_schema": SCHEMA,
                "indexes": [
                    {"name": "name", "query": "by name", "keys": [{"name": 1}], "unique": True},
                    {"name": "made_at", "query": "expiry", "keys": [{"made_at": 1}], "expire_after_seconds": 60},
                ],
            }
        ],
        "views": [{"name": "names", "view_on": "things", "pipeline": [{"$project": {"name": 1}}]}],
        "roles": [
            {
                "name": "reader",
                "purpose": "reads",
                "privileges": [{"collection": "things", "actions": ["find", "listIndexes"]}],
            }
        ],
        "users": [{"name": "reader", "roles": ["reader"]}],
        "server": {
            "parameters": [
                {"name": "ttlMonitorEnabled", "value": True, "why": "expiry"},
                {"name": "scramSHA256IterationCount", "value": 15000, "why": "guessing"},
            ]
        },
        "migrations": [MIGRATION.model_dump()],
    }
)
CONVERGED: Case = {
    "collections": {
        "things": {
            "type": "collection",
            "options": {"validator": {"$jsonSchema": SCHEMA}},
            "indexes": {
                "_id_": {"v": 2, "key": {"_id": 1}, "name": "_id_"},
                "name": {"v": 2, "key": {"name": 1}, "name": "name", "unique": True},
                "made_at": {"v": 2, "key": {"made_at": 1}, "name": "made_at", "expireAfterSeconds": 60},
            },
        },
        "names": {"type": "view", "options": {"viewOn": "things", "pipeline": [{"$project": {"name": 1}}]}},
    },
    "roles": {
        "admin.reader": {
            "privileges": [{"resource": {"db": "chat", "collection": "things"}, "actions": ["find", "listIndexes"]}],
            "roles": [],
        }
    },
    "users": {
        "admin.reader": {
            "roles": [{"role": "reader", "db": "admin"}],
            "mechanisms": ["SCRAM-SHA-256"],
            "iterations": 15000,
        }
    },
    "passwords": ["reader"],
    "parameters": {"ttlMonitorEnabled": {"value": True}, "scramSHA256IterationCount": {"value": 15000}},
    "profiling_level": 0,
    "migrations": {MIGRATION.id: {}},
}


def merged(case: Case) -> Case:
    """CONVERGED with what the case changes: an empty map empties, null removes an index."""
    state, live = copy.deepcopy(CONVERGED), case.get("live", {})
    for kind in ("collections", "roles", "users"):
        state[kind] = state[kind] | live[kind] if live.get(kind) else live.get(kind, state[kind])
    things = live.get("things", {})
    if things:
        indexes = state["collections"]["things"]["indexes"] | things.get("indexes", {})
        indexes = {name: index for name, index in indexes.items() if index}
        state["collections"]["things"] |= {**things, "indexes": indexes}
    state["roles"].get("admin.reader", {}).update(live.get("role", {}))
    state["users"].get("admin.reader", {}).update(live.get("user", {}))
    state["parameters"].update(live.get("parameters", {}))
    for name in ("passwords", "profiling_level", "migrations"):
        state[name] = live.get(name, state[name])
    return state


def live_of(case: Case) -> Live:
    state = merged(case)
    split = {kind: {tuple(key.split(".")): value for key, value in state[kind].items()} for kind in ("roles", "users")}
    return Live(
        collections={
            name: LiveCollection(
                name,
                found["type"],
                found.get("options", {}),
                found.get("indexes", {}),
                found.get("empty", True),
                found.get("hidden_since", {}),
            )
            for name, found in state["collections"].items()
        },
        roles={key: LiveRole(*key, **found) for key, found in split["roles"].items()},
        users={key: LiveUser(*key, **found) for key, found in split["users"].items()},
        passwords=frozenset(state["passwords"]),
        parameters={"db1:27017": {name: LiveParameter(**found) for name, found in state["parameters"].items()}},
        profiling_level=state["profiling_level"],
        migrations={
            name: LiveMigration(found.get("digest", MIGRATION.digest), APPLIED_AT, found.get("back", False))
            for name, found in state["migrations"].items()
        },
    )


def findings_of(case: Case) -> Findings:
    def offenders(kind: str) -> dict[str, Offenders]:
        return {name: Offenders(**found) for name, found in case.get(kind, {}).items()}

    return Findings(
        violations=offenders("violations"),
        breaking=offenders("breaking"),
        duplicates={("things", name): found for name, found in offenders("duplicates").items()},
        expiring=frozenset((a, b) for a, b in case.get("expiring", [])),
        rejected={(kind, name): reason for kind, name, reason in case.get("rejected", [])},
    )


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_difference(case: Case) -> None:
    changes = diff(DECLARED, live_of(case), findings_of(case), {"reader": PASSWORD}, warn=case.get("warn", False))
    wanted = case.get("changes", [])
    assert [(c.kind, c.target, c.risk.value) for c in changes] == [
        (change["kind"], change["target"], change["risk"]) for change in wanted
    ]
    for change, want in zip(changes, wanted, strict=True):
        assert want.get("statement", "") in change.statement
        assert want.get("summary", "") in change.summary
        assert (change.refused or "").startswith(want.get("refused", ""))
        assert bool(change.refused) is ("refused" in want)
        assert change.waits_for == want.get("waits_for")
        assert PASSWORD not in str(change.as_json()) + repr(change)


def test_what_apply_runs_holds_the_password() -> None:
    (change,) = diff(DECLARED, live_of({"live": {"passwords": []}}), Findings(), {"reader": PASSWORD})
    assert change.operation[0].document["pwd"] == PASSWORD
