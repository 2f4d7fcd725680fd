"""What is wrong with the declared state or the server is one line; nothing is half applied and a rerun converges."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from chat_api.configuration import Address, Configuration, Credentials
from chat_api.stores import Stores
from chat_api.stores.mongodb import MongoDB
from dbkeep import mongodb as engine
from dbkeep import tls
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.models import Declared
from dbkeep.plan import ApplyError
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
        planned = [c for c in engine.plan(plain, declared, passwords) if c.kind != "migration"]
        commands = [command for change in planned for command in change.operation]
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


def test_a_wrong_password_of_the_api_is_one_line_of_its_log(
    settings: MongoDBSettings, caplog: pytest.LogCaptureFixture
) -> None:
    configuration = Configuration.model_construct(
        ca_file=settings.ca_file,
        mongodb_hosts=[Address(host=settings.host, port=settings.port)],
        mongodb_replica_set=settings.replica_set,
        mongodb_database=settings.database,
    )
    store = MongoDB(configuration, Credentials.model_construct(mongodb_chat_api=SecretStr("a-wrong-password")))

    async def ask() -> bool:
        try:
            return await Stores._answers("mongodb", store.ready)
        finally:
            await store.close()

    assert asyncio.run(ask()) is False
    said = [record.getMessage() for record in caplog.records if record.name.startswith("chat_api")]
    assert said[0] == "mongodb refuses the password of chat_api: playbooks/site.yml sets it and gives it to the API"
    assert "a-wrong-password" not in caplog.text
