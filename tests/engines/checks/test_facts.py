"""What the observers see of real Redis and MongoDB servers."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bson import ObjectId

from dbkeep.checks.facts import mongodb as mongodb_facts
from dbkeep.checks.facts import redis as redis_facts
from dbkeep.checks.facts.compliance import Compliance
from dbkeep.mongodb.connect import connect as connect_mongodb
from dbkeep.redis.connect import connect as connect_redis
from dbkeep.sandbox import mongodb, redis


def test_redis_facts_hold_selectors_dry_runs_and_no_password(tmp_path: Path) -> None:
    with redis.start(tmp_path) as settings, connect_redis("state", settings.instances["state"]) as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">a-password-of-the-reader", "~sess:*", "+get")  # type: ignore[no-untyped-call]
        client.execute_command("ACL", "SETUSER", "reader", "(~* +@all)")  # type: ignore[no-untyped-call]
        code = "#!lua name=x\nredis.register_function('x', function() return 1 end)"
        client.function_load(code)
        found = redis_facts.describe(
            client, [["reader", "get", "sess:a"], ["reader", "flushall"], ["nobody", "get", "a"]]
        )
    assert [entry["allowed"] for entry in found["dry_runs"]] == [True, True, False]
    assert "off" in found["users"]["default"]["flags"]
    assert found["libraries"] == {"x": hashlib.sha256(code.encode()).hexdigest()}
    assert found["users"]["reader"]["passwords"] == 1
    assert "~*" in found["users"]["reader"]["selectors"][0].split()
    assert "+@all" in found["users"]["reader"]["selectors"][0].split()
    assert found["network_administrators"] == 0
    assert found["configuration"]["maxmemory-policy"] == "noeviction"
    # The digest of a password is as good as the password to whoever may guess.
    assert "#" not in str(found["users"])
    assert "a-password" not in str(found)


def test_an_acl_file_is_described_without_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "users.acl"
    digest = "a" * 64
    file.write_text(
        f"# >a comment\nuser default off\nuser x on #{digest} #{digest} ~a +get\nuser y on >in-clear +get\n"
    )
    file.chmod(0o640)
    found = redis_facts.describe_acl_file(file)
    assert (found["mode"], found["digests"], found["in_clear"]) == ("0640", 2, 1)
    assert digest not in str(found)
    assert "in-clear" not in str(found)


def test_mongodb_facts_hold_validators_and_the_documents_that_break_them(tmp_path: Path) -> None:
    schema = {"$jsonSchema": {"bsonType": "object", "additionalProperties": False, "properties": {"_id": {}}}}
    with mongodb.start(tmp_path) as settings, connect_mongodb(settings) as client:
        client.chat.create_collection("messages", validator=schema)
        client.chat.create_collection("open")
        client.chat.messages.insert_one({"_id": ObjectId()})
        place = tmp_path / "documents.json"
        clean = mongodb_facts.describe(client, "chat", Compliance(place))
        client.chat.messages.insert_one({"stray": 1}, bypass_document_validation=True)
        client.chat.command("collMod", "messages", validationLevel="moderate")
        broken = mongodb_facts.describe(client, "chat", Compliance(place))
    before, after = ({c["name"]: c for c in found["collections"]}["messages"] for found in (clean, broken))
    assert (before["level"], before["action"], before["closed"]) == ("strict", "error", True)
    assert (before["compliance"]["breaking"], before["compliance"]["searched"]) == (None, 1)
    assert after["level"] == "moderate"
    assert ObjectId.is_valid(after["compliance"]["breaking"])
    unguarded = {c["name"]: c for c in clean["collections"]}["open"]
    assert not unguarded["closed"]
    assert clean["parameters"]["enableLocalhostAuthBypass"] in (True, False)
    replica_set = clean["replica_set"]
    assert (replica_set["name"], replica_set["writable"], replica_set["majority_is_journaled"]) == ("chat", True, True)
    assert [(m["state"], m["votes"], m["answers"], m["behind_seconds"]) for m in replica_set["members"]] == [
        ("PRIMARY", 1, True, 0.0)
    ]
    assert replica_set["oplog"]["kept_hours"] == 0
    process = clean["process"]
    assert process["journal_bytes"] > 0
    assert process["cache_bytes"] == 2**28 < process["memory_bytes"]
    assert (process["log"]["destination"], process["log"]["is_written"]) == ("file", True)
    assert clean["version"][0] >= 6
