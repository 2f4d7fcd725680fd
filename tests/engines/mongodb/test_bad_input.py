"""What is wrong with the declared state or the server is one line; nothing is half applied and a rerun converges."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from dbkeep import mongodb as engine
from dbkeep import tls
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import Client, address, connect, hello
from dbkeep.mongodb.connect import client as client_of
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError, Change
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

from .test_documents import GOOD

Document = dict[str, Any]
USERS_AND_ROLES = ("system.users", "system.roles")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[MongoDBSettings]:
    """A server of its own, because these tests leave it half made."""
    with sandbox.start(folder / "plain", parameters={"scramSHA256IterationCount": "5000"}) as settings:
        yield settings


def state(client: Client) -> list[Any]:
    shapes = sorted(client["chat"].list_collections(), key=lambda found: str(found["name"]))
    indexes = {
        name: client["chat"][name].index_information()
        for name in client["chat"].list_collection_names(filter={"type": "collection"})
    }
    return [shapes, indexes, *(list(client["admin"][name].find()) for name in USERS_AND_ROLES)]


def empty(client: Client) -> None:
    client.drop_database("chat")
    client["admin"].command("dropAllUsersFromDatabase")
    client["admin"].command("dropAllRolesFromDatabase")


def changed(declared: Declared, part: str, name: str, **update: Any) -> Declared:
    parts = [item.model_copy(update=update) if item.name == name else item for item in getattr(declared, part)]
    return declared.model_copy(update={part: tuple(parts)})


def bad_states(declared: Declared) -> dict[str, tuple[Declared, str]]:
    messages = next(collection for collection in declared.collections if collection.name == "messages")
    rule = messages.rules[0].model_copy(update={"expr": {"$atLeast": ["$updated_at", "$created_at"]}})
    index = messages.indexes[0].model_copy(update={"collation": {"locale": "klingon"}})
    typed = {"bsonType": "objct", "additionalProperties": False, "properties": {}}
    privilege = declared.roles[0].privileges[0].model_copy(update={"actions": ("find", "fnid")})
    parameter = declared.server.parameters[0]
    start = parameter.model_copy(update={"name": "enableLocalhostAuthBypass", "value": False})
    unknown = parameter.model_copy(update={"name": "ttlMonitorEnabledd"})
    server = declared.server
    return {
        "an expression of no meaning": (
            changed(declared, "collections", "messages", rules=(rule,)),
            "mongodb collection chat.messages: the server does not accept it: Unrecognized expression '$atLeast'",
        ),
        "an unknown type": (
            changed(declared, "collections", "messages", json_schema=typed),
            "mongodb collection chat.messages: the server does not accept it: Unknown type name alias: objct",
        ),
        "an unknown locale": (
            changed(declared, "collections", "messages", indexes=(index,)),
            "the server does not accept it: Field 'locale' is invalid in: { locale: \"klingon\" }",
        ),
        "an unknown stage": (
            changed(declared, "views", "message_activity", pipeline=({"$projcet": {"a": 1}},)),
            "chat.message_activity: the server does not accept it: Unrecognized pipeline stage name: '$projcet'",
        ),
        "an unknown action": (
            changed(declared, "roles", declared.roles[0].name, privileges=(privilege,)),
            "mongodb role chat_api: the server knows no action fnid",
        ),
        "a parameter of the start": (
            declared.model_copy(update={"server": server.model_copy(update={"parameters": (start,)})}),
            "can only be set when the server starts; move it to roles/mongodb/templates/mongod.conf.j2",
        ),
        "an unknown parameter": (
            declared.model_copy(update={"server": server.model_copy(update={"parameters": (unknown,)})}),
            "ttlMonitorEnabledd: this version of the server does not have it; correct mongo/server.yml",
        ),
    }


CASES = list(bad_states(engine.read_declared(Path(__file__).parents[3])))


@pytest.mark.parametrize("case", CASES)
def test_what_the_server_would_not_take_is_refused_before_anything_changes(
    case: str, plain: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> None:
    bad, line = bad_states(declared)[case]
    with connect(plain) as client:
        for made_before in (False, True):
            empty(client)
            if made_before:
                engine.apply(plain, declared, passwords)
                client["chat"]["messages"].insert_one(copy.deepcopy(GOOD["messages"]))
            before = state(client)
            with pytest.raises(ApplyError) as error:
                engine.apply(plain, bad, passwords)
            expected = line.replace("mongodb collection chat.messages", "mongodb validator chat.messages")
            assert str(error.value).endswith(expected if made_before else line)
            assert "\n" not in str(error.value)
            assert state(client) == before
        engine.apply(plain, declared, passwords)
        assert list(engine.plan(plain, declared, passwords)) == []


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 0.95])
def test_an_apply_that_ended_anywhere_converges_when_it_is_run_again(
    share: float, plain: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> None:
    with connect(plain) as client:
        empty(client)
        commands = [command for change in engine.plan(plain, declared, passwords) for command in change.operation]
        for command in commands[: int(share * len(commands))]:
            client[command.database].command(command.document)
        engine.apply(plain, declared, passwords)
        assert list(engine.plan(plain, declared, passwords)) == []


def test_a_server_without_a_replica_set_is_one_line(
    folder: Path, declared: Declared, passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbkeep.mongodb.connect.TIMEOUT_MS", 1000)
    with sandbox.start(folder / "alone", initiate=False) as settings:
        with pytest.raises(UsageError) as error:
            engine.plan(settings, declared, passwords)
        assert "check that mongod runs, is a member of the replica set and that the set has a primary" in str(
            error.value
        )
        assert "\n" not in str(error.value)


def test_the_wrong_authority_is_one_line(
    settings: MongoDBSettings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbkeep.mongodb.connect.TIMEOUT_MS", 1000)
    other = folder / "other-ca.crt"
    other.write_text(tls.new_authority(tls.new_private_key(), "other"), encoding="ascii")
    for ca_file, reason in (
        (other, "certificate verify failed"),
        (folder / "no.crt", "mongodb-admin.pem: cannot be used: [Errno 2]"),
    ):
        with pytest.raises(DbkeepError) as error:
            engine.version(settings.model_copy(update={"ca_file": ca_file}))
        assert reason in str(error.value)
        assert "\n" not in str(error.value)
        assert error.value.exit_code == 2


def test_a_certificate_that_is_no_administrators_is_one_line(
    settings: MongoDBSettings, security: sandbox.Security
) -> None:
    stranger = settings.model_copy(update={"certificate_key_file": security.server_certificate})
    with pytest.raises(UsageError) as error:
        engine.version(stranger)
    assert "the host administrator is missing or was made for another certificate; run playbooks/site.yml" in str(
        error.value
    )
    assert "\n" not in str(error.value)


def initiate(members: list[MongoDBSettings], *, miss_primary_ms: int) -> None:
    """Make the servers one replica set with the first as its primary, which the others miss after a while."""
    hosts = [{"_id": number, "host": address(member)} for number, member in enumerate(members)]
    # Without chaining a secondary that is held back holds no other one back.
    options = {"electionTimeoutMillis": miss_primary_ms, "chainingAllowed": False}
    config = {"_id": members[0].replica_set, "members": hosts, "settings": options}
    with client_of(members[0], direct=True) as client:
        client["admin"].command("replSetInitiate", config)
        deadline = time.monotonic() + 30
        while not client["admin"].command("hello")["isWritablePrimary"]:
            assert time.monotonic() < deadline
            with suppress(OperationFailure):
                client["admin"].command("replSetStepUp")
            time.sleep(0.1)


def test_the_primary_lost_in_mid_apply_is_one_line_and_a_rerun_converges(
    folder: Path, declared: Declared, passwords: dict[str, str]
) -> None:
    with ExitStack() as stack:
        members = [
            stack.enter_context(sandbox.start(folder / f"lost-{number}", initiate=False, port=None))
            for number in range(3)
        ]
        initiate(members, miss_primary_ms=3000)
        made: list[Change] = []

        def end_the_primary(change: Change) -> None:
            made.append(change)
            if len(made) == 8:
                with connect(members[2]) as client:
                    os.kill(client["admin"].command("serverStatus")["pid"], signal.SIGKILL)

        with pytest.raises(ApplyError) as error:
            engine.apply(members[2], declared, passwords, on_change=end_the_primary)
        assert "lost the primary" in str(error.value)
        assert "when the replica set has one, run the same command again" in str(error.value)
        assert "\n" not in str(error.value)
        assert len(error.value.applied) == 8

        survivors = [member for member in members if hello(member, 500)]
        assert len(survivors) == 2
        bootstrap.wait_for_primary(survivors[0])
        engine.apply(survivors[0], declared, passwords)
        assert list(engine.plan(survivors[0], declared, passwords)) == []
