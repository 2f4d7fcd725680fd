"""What the API's own database users can do without the API, and that no request acts for another's user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pymongo
import pytest
import redis

from chat_api.configuration import read_configuration, read_credentials
from chat_api.stores.postgresql import PostgreSQL
from dbkeep.mongodb.connect import Document

NewUser = Callable[..., Any]


def connect(servers: Any, role: str) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host="127.0.0.1",
        port=servers.ports["postgresql"],
        dbname="chat",
        user=role,
        password=servers.passwords["postgresql"][role],
        sslmode="verify-full",
        sslrootcert=str(servers.authority.file),
    )


def test_app_api_cannot_say_itself_whom_it_acts_for(trio: Any, servers: Any) -> None:
    """What an SQL injection could do: the API signs, and nothing in the database does."""
    with connect(servers, "app_api") as connection:
        connection.execute("SELECT set_config('app.user_id', %s, true)", (trio[0].id,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not signed"):
            connection.execute("SELECT user_id FROM chat.settings")


@pytest.mark.parametrize("context", [None, ""])
def test_app_api_without_a_known_user_sees_no_row(trio: Any, servers: Any, context: str | None) -> None:
    trio[0].api.put("/settings/theme", json={"value": "dark"})
    with connect(servers, "app_api") as connection:
        if context is not None:
            connection.execute("SELECT set_config('app.user_id', %s, true)", (context,))
        for query in (
            "SELECT id FROM chat.users",
            "SELECT user_id FROM chat.profiles",
            "SELECT user_id FROM chat.relationships",
            "SELECT user_id FROM chat.settings",
        ):
            assert connection.execute(query).fetchall() == []


@pytest.mark.parametrize("column", ["password_hash", "email", "email_index"])
def test_app_api_cannot_read_what_only_auth_needs(servers: Any, column: str) -> None:
    with connect(servers, "app_api") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT {column} FROM chat.users")


def test_chat_api_cannot_remove_a_message_or_change_a_shape(servers: Any) -> None:
    with pymongo.MongoClient[Document](
        f"mongodb://127.0.0.1:{servers.ports['mongodb']}",
        username="chat_api",
        password=servers.passwords["mongodb"]["chat_api"],
        tls=True,
        tlsCAFile=str(servers.authority.file),
        replicaSet="chat",
    ) as client:
        for attempt in (
            lambda: client["chat"]["messages"].delete_one({}),
            client["chat"]["messages"].drop,
            lambda: client["chat"]["notifications"].insert_one({}),
            lambda: client["chat"].command("collMod", "messages", validator={}),
            client["admin"]["system.users"].find_one,
        ):
            with pytest.raises(pymongo.errors.OperationFailure) as refused:
                attempt()
            assert refused.value.code == 13


def test_svc_api_can_read_a_session_and_not_make_one(servers: Any) -> None:
    with redis.Redis(
        host="127.0.0.1",
        port=servers.ports["redis_state"],
        username="svc_api",
        password=servers.passwords["redis"]["svc_api"],
        ssl=True,
        ssl_ca_certs=str(servers.authority.file),
    ) as client:
        assert client.get("sess:nobody") is None
        attempt: Callable[[], object]
        for attempt in (
            lambda: client.set("sess:mine", "1"),
            lambda: client.set("rl:auth:login-account:x", "1"),
            lambda: client.keys("*"),
            lambda: client.config_get("*"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                attempt()


def test_simultaneous_requests_never_act_for_another(trio: Any) -> None:
    def own_id(number: int) -> tuple[str, str]:
        user = trio[number % 3]
        return user.id, user.api.patch("/profile", json={}).json()["user_id"]

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(own_id, range(240)))
    assert [mine for mine, _ in answers] == [seen for _, seen in answers]


def test_the_user_is_forgotten_with_the_transaction(trio: Any, environment: dict[str, str], credentials: Path) -> None:
    settings = {**environment, "CHAT_API_POSTGRESQL_POOL_SIZE": "1"}
    store = PostgreSQL(read_configuration(settings), read_credentials(credentials))
    setting = "SELECT current_setting('app.user_id', true) AS it"

    async def borrow_twice() -> tuple[Any, Any]:
        await store.open()
        try:
            (during,) = (await store.run_as(UUID(trio[0].id), setting)).rows
            async with store._api.connection() as connection:
                return during, await (await connection.execute(setting)).fetchone()
        finally:
            await store.close()

    during, afterwards = asyncio.run(borrow_twice())
    assert (during["it"].split(".")[0], afterwards["it"]) == (trio[0].id, "")
