"""What one round trip a request is worth: the API's reads as it sends them, against BEGIN, context, query and COMMIT.

`.venv/bin/python bench/round_trips.py` runs both forms through the API's own store and pool, over TLS, in turns, on one
server in one run, and prints how many requests a second each answers and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from pydantic import SecretBytes, SecretStr

import population
import tls_server
from chat_api.configuration import Configuration, Credentials
from chat_api.key_ring import KeyRing
from chat_api.relationships import store as relationships
from chat_api.settings import store as settings
from chat_api.stores.postgresql import SET_CONTEXT, PostgreSQL
from chat_api.users import store as users
from dbkeep.postgresql import context_keys

TARGET = 2.0
USERS = 2_000

Read = tuple[str, tuple[Any, ...]]
Form = Callable[[UUID, Any, tuple[Any, ...]], Awaitable[Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=10, help="how long both forms of each read run together")
    parser.add_argument("--clients", type=int, default=1, help="how many requests are under way at a time")
    parser.add_argument("--context", choices=["plain", "signed"], default="plain")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        rates = _on_a_server(folder, arguments)
    if arguments.json:
        print(json.dumps({**vars(arguments), "requests_per_second": rates}, indent=2))
        return 0
    for read, (one, four) in rates.items():
        print(f"{read:15} {one:8.0f}/s in one round trip, {four:8.0f}/s in four: {one / four:.2f} x (target {TARGET})")
    return 0


def _on_a_server(folder: Path, arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    with tls_server.start(folder, context=arguments.context) as server:
        reached = server.settings
        with psycopg.connect(
            host=str(reached.socket_directory), port=reached.port, user=reached.user, dbname="chat", autocommit=True
        ) as administrator:
            population.fill(administrator, USERS)
            people = administrator.execute("SELECT id, username FROM chat.users LIMIT 20").fetchall()
        settings_of_the_api = {
            "ca_file": server.ca_file,
            "postgresql_hosts": f"{tls_server.ADDRESS}:{server.settings.port}",
            "postgresql_pool_size": arguments.clients,
        }
        configuration = Configuration.model_validate(settings_of_the_api)
        return asyncio.run(_rates(configuration, _credentials(folder, server), people, arguments.seconds))


def _credentials(folder: Path, server: tls_server.Server) -> Credentials:
    unused, passwords = SecretStr("unused"), server.passwords
    return Credentials(
        tls_certificate=folder / "server.crt", tls_key=folder / "server.key",
        postgresql_app_api=SecretStr(passwords["app_api"]), postgresql_app_auth=SecretStr(passwords["app_auth"]),
        context_keys=context_keys.keys(server.context_key),
        mongodb_chat_api=unused, redis_svc_api=unused, redis_svc_auth=unused,
        token_key=SecretBytes(bytes(32)), field_keys=KeyRing({1: bytes(32)}), blind_index_keys=KeyRing({1: bytes(32)}),
    )  # fmt: skip


class FourTrips(PostgreSQL):
    """The API's store, which could also do it the usual way."""

    async def run_in_four(self, user: UUID, text: Any, parameters: tuple[Any, ...]) -> Any:
        async with self._api.connection() as connection, connection.transaction():
            await connection.execute(SET_CONTEXT, (self._context(connection, user),))
            return await (await connection.execute(text, parameters)).fetchall()


async def _rates(
    configuration: Configuration, credentials: Credentials, people: list[tuple[UUID, str]], seconds: float
) -> dict[str, tuple[float, float]]:
    (me, _), *others = people
    reads: dict[str, Read] = {
        "own profile": (users.OWN, (me,)),
        "find user": (users.FIND, (others[0][1],)),
        "visible": (users.VISIBLE, (users.array_of(other for other, _ in others[:10]),)),
        "relationships": (relationships.OWN, (500,)),
        "settings": (settings.OWN, (me,)),
    }
    store = FourTrips(configuration, credentials)
    await store.open()

    async def one(user: UUID, text: Any, parameters: tuple[Any, ...]) -> Any:
        return (await store.run_as(user, text, parameters)).rows

    async def four(user: UUID, text: Any, parameters: tuple[Any, ...]) -> Any:
        return await store.run_in_four(user, text, parameters)

    try:
        return {
            name: await _compare((one, four), (me, *read), seconds / len(reads), configuration.postgresql_pool_size)
            for name, read in reads.items()
        }
    finally:
        await store.close()


async def _compare(
    forms: tuple[Form, Form], call: tuple[Any, ...], seconds: float, clients: int
) -> tuple[float, float]:
    """Requests a second of each form, in short turns, so that what else the machine does falls on both."""
    turns = 10
    done, spent = [0, 0], [0.0, 0.0]
    for turn in range(turns + 1):
        for index, form in enumerate(forms):
            started = time.perf_counter()
            until = started + seconds / turns / 2
            counts = await asyncio.gather(*(_repeat(form, call, until) for _ in range(clients)))
            if turn:  # the first is for connections, plans and caches
                done[index] += sum(counts)
                spent[index] += time.perf_counter() - started
    return done[0] / spent[0], done[1] / spent[1]


async def _repeat(form: Form, call: tuple[Any, ...], until: float) -> int:
    count = 0
    while time.perf_counter() < until:
        await form(*call)
        count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
