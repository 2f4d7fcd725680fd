"""What the API's queries cost on many messages: indexes and documents as the server's profiler saw them, and times.

`.venv/bin/python bench/mongodb_queries.py --messages 1000000` makes a throw-away server as declared, fills it, and
shows what each query reads, reading and sending beside the bare driver, and the search for documents that break their
validator.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from chat_api.configuration import Address, Configuration, Credentials
from chat_api.stores.mongodb import MongoDB
from dbkeep import mongodb
from dbkeep.environment import checkout
from dbkeep.mongodb.connect import Client, connect
from dbkeep.mongodb.models import Declared
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox import mongodb_security
from dbkeep.settings import MongoDBSettings
from mongodb_observed import queries
from mongodb_population import populate
from mongodb_times import bare_driver, sides, times

BREAKING = 5
SEARCH_SECONDS = 3600


def store_of(settings: MongoDBSettings, password: str) -> MongoDB:
    """Return the API's own store on a server, logged on as its own user."""
    configuration = Configuration.model_construct(
        ca_file=settings.ca_file, mongodb_hosts=[Address(host=settings.host, port=settings.port)],
        mongodb_replica_set=settings.replica_set, mongodb_database=settings.database,
    )  # fmt: skip
    return MongoDB(configuration, Credentials.model_construct(mongodb_chat_api=SecretStr(password)))


def search(
    client: Client, settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]
) -> dict[str, float | str]:
    """Return how fast `plan --documents` searches all documents for what breaks their validator, and in what memory.

    A few such documents are put there first: the search must find them.
    """
    bad = [{"content": number} for number in range(BREAKING)]
    client["chat"]["messages"].insert_many(bad, bypass_document_validation=True)
    count, before = sum(mongodb.counts(settings).values()), _resident(client)
    started = time.perf_counter()
    found = mongodb.plan(settings, declared, passwords, documents=True, search_seconds=SEARCH_SECONDS)
    seconds = time.perf_counter() - started
    return {
        "documents": count, "seconds": seconds, "found": "; ".join(change.summary for change in found),
        "resident_mb_before": before, "resident_mb_after": _resident(client),
    }  # fmt: skip


def _resident(client: Client) -> float:
    return float(client.admin.command("serverStatus")["mem"]["resident"])


async def measure(
    settings: MongoDBSettings, declared: Declared, passwords: dict[str, str], messages: int, rounds: int
) -> dict[str, Any]:
    with connect(settings) as client:
        started = time.perf_counter()
        of = populate(client, messages, _progress)
        filled = time.perf_counter() - started
        store = store_of(settings, passwords["chat_api"])
        async with bare_driver(settings) as bare:
            seen = await queries(client, store, of)
            taken = await times(sides(store, bare, of), rounds)
        await store.close()
        size = client["chat"].command("dbStats", scale=1_000_000)
        return {
            "fill_seconds": filled, "data_mb": size["dataSize"], "stored_mb": size["totalSize"],
            "queries": [asdict(query) for query in seen], "milliseconds": taken,
            "search": search(client, settings, declared, passwords),
        }  # fmt: skip


def _progress(what: str, share: float) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{what}: {share:.0%}  ", err=True, nl=share == 1)


@click.command()
@click.option("--messages", default=100_000, show_default=True)
@click.option("--rounds", default=1000, show_default=True)
@click.option("--cache-gb", default=0.25, show_default=True, help="The server's cache.")
@click.option("--json", "as_json", is_flag=True)
def main(messages: int, rounds: int, cache_gb: float, *, as_json: bool) -> None:
    """Fill a server with MESSAGES messages, show what each query of the API reads, and time reading and sending."""
    declared = mongodb.read_declared(checkout())
    passwords = {user: secrets.token_urlsafe(32) for user in mongodb.users(declared)}
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        safe = mongodb_security.issue(Path(name) / "tls")
        with sandbox.start(Path(name) / "server", security=safe, cache_gb=cache_gb) as settings:
            mongodb.apply(settings, declared, passwords)
            result = {"messages": messages, **asyncio.run(measure(settings, declared, passwords, messages, rounds))}
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    click.echo(f"{result['messages']} messages in {result['fill_seconds']:.0f} s, {result['data_mb']:.0f} MB, "
               f"{result['stored_mb']:.0f} MB on disk with indexes")  # fmt: skip
    for query in result["queries"]:
        click.echo(f"{query['call']:<28} {query['documents']:>4} documents for {query['returned']:>3}  {query['plan']}")
    for name, parts in result["milliseconds"].items():
        for part, (mine, bare) in parts.items():
            click.echo(f"{name} {part}: {mine:.2f} ms = {mine / bare:.2f} x the bare driver without a validator")
    found = result["search"]
    rate, more = found["documents"] / found["seconds"], found["resident_mb_after"] - found["resident_mb_before"]
    click.echo(f"search for documents that break a validator: {rate:.0f} documents/s, {more:.0f} MB more memory on the "
               f"server, {found['found']}")  # fmt: skip


if __name__ == "__main__":
    main()
