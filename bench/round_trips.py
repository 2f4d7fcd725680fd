"""What one round trip a request is worth: the API's reads as it sends them, against BEGIN, context, query and COMMIT.

`.venv/bin/python bench/round_trips.py` runs both forms through the API's own store and pool, over TLS, in turns, on one
server in one run, and prints how many requests a second each answers and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pwd
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from pydantic import SecretBytes, SecretStr

import population
from chat_api.configuration import Configuration, Credentials
from chat_api.key_ring import KeyRing
from chat_api.relationships import store as relationships
from chat_api.settings import store as settings
from chat_api.stores.postgresql import PostgreSQL
from chat_api.users import store as users
from dbkeep import postgresql, tls
from dbkeep.postgresql import context_keys
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import new_password

ROOT = Path(__file__).parents[1]
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
    authority_key = tls.new_private_key()
    authority = tls.new_authority(authority_key, "bench")
    (folder / "ca.crt").write_text(authority, encoding="ascii")
    key = tls.new_private_key()
    subject = tls.Subject("postgresql", names=("127.0.0.1",))
    signed = tls.sign(tls.new_request(key, "postgresql"), subject, private_key=authority_key, authority=authority)
    _give(folder / "server.crt", signed)
    _give(folder / "server.key", key)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    options = {"ssl": "on", "ssl_cert_file": str(folder / "server.crt"), "ssl_key_file": str(folder / "server.key")}
    declared = postgresql.read_declared(ROOT, context=arguments.context)
    passwords = {role: new_password() for role in postgresql.users(declared)}
    context_key = new_password()
    with sandbox.start(folder / "server", port=port, listen_addresses="127.0.0.1", options=options) as server:
        postgresql.apply(server, declared, {**passwords, context_keys.ENTRY: context_key})
        with psycopg.connect(
            host=str(server.socket_directory), port=port, user="postgres", dbname="chat", autocommit=True
        ) as administrator:
            population.fill(administrator, USERS)
            people = administrator.execute("SELECT id, username FROM chat.users LIMIT 20").fetchall()
        settings_of_the_api = {
            "ca_file": folder / "ca.crt",
            "postgresql_hosts": f"127.0.0.1:{port}",
            "postgresql_pool_size": arguments.clients,
        }
        configuration = Configuration.model_validate(settings_of_the_api)
        return asyncio.run(
            _rates(configuration, _credentials(folder, passwords, context_key), people, arguments.seconds)
        )


def _give(path: Path, text: str) -> None:
    """A file that only the server's user can read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")
    with suppress(KeyError, PermissionError):
        shutil.chown(path, pwd.getpwnam("postgres").pw_name)


def _credentials(folder: Path, passwords: dict[str, str], context_key: str) -> Credentials:
    unused = SecretStr("unused")
    return Credentials(
        tls_certificate=folder / "server.crt", tls_key=folder / "server.key",
        postgresql_app_api=SecretStr(passwords["app_api"]), postgresql_app_auth=SecretStr(passwords["app_auth"]),
        context_keys=context_keys.keys(context_key),
        mongodb_chat_api=unused, redis_svc_api=unused, redis_svc_auth=unused,
        token_key=SecretBytes(bytes(32)), field_keys=KeyRing({1: bytes(32)}), blind_index_keys=KeyRing({1: bytes(32)}),
    )  # fmt: skip


async def _rates(
    configuration: Configuration, credentials: Credentials, people: list[tuple[UUID, str]], seconds: float
) -> dict[str, tuple[float, float]]:
    (me, _), *others = people
    reads: dict[str, Read] = {
        "own profile": (users.OWN, (me,)),
        "find user": (users.FIND, (others[0][1],)),
        "visible": (users.VISIBLE, ([other for other, _ in others[:10]],)),
        "relationships": (relationships.OWN, (500,)),
        "settings": (settings.OWN, (me,)),
    }
    store = PostgreSQL(configuration, credentials)
    await store.open()

    async def one(user: UUID, text: Any, parameters: tuple[Any, ...]) -> Any:
        return (await store.run_as(user, text, parameters)).rows

    async def four(user: UUID, text: Any, parameters: tuple[Any, ...]) -> Any:
        async with store.acting_as(user) as connection:
            return await (await connection.execute(text, parameters)).fetchall()

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
