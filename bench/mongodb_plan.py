"""How long `plan` and `apply` take on many collections, against the bare driver reading and making the same."""

from __future__ import annotations

import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dbkeep import mongodb
from dbkeep.environment import checkout
from dbkeep.mongodb.connect import client, connect
from dbkeep.mongodb.models import Collection, Declared, Privilege
from dbkeep.mongodb.statements import (
    create_collection,
    create_index,
    create_role,
    create_user,
    create_view,
    index_specification,
)
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox import mongodb_security
from dbkeep.settings import MongoDBSettings

DATABASE = "chat"


def declared_with(collections: int) -> Declared:
    """Return the checkout's declared state with its collections repeated under other names, granted to chat_api."""
    declared = mongodb.read_declared(checkout())
    own = len(declared.collections)
    more = [
        declared.collections[number % own].model_copy(update={"name": f"more_{number}"})
        for number in range(own, collections)
    ]
    granted = tuple(Privilege(collection=each.name, actions=("find", "insert", "update")) for each in more)
    first, *roles = declared.roles
    first = first.model_copy(update={"privileges": (*first.privileges, *granted)})
    return declared.model_copy(update={"collections": (*declared.collections, *more), "roles": (first, *roles)})


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def read_by_driver(settings: MongoDBSettings, passwords: dict[str, str]) -> None:
    """Read collections, indexes, roles and users, and log on as each user: what a comparison cannot do without."""
    with connect(settings) as connection:
        for found in list(connection[DATABASE].list_collections(filter={"type": "collection"})):
            list(connection[DATABASE][found["name"]].list_indexes())
        list(connection.admin["system.roles"].find())
        connection.admin.command("usersInfo", {"forAllDBs": True})
    for user, password in passwords.items():
        with client(settings, direct=True, username=user, password=password, authSource="admin") as session:
            session.admin.command("ping")


def make_by_driver(settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]) -> None:
    """Make the same collections, indexes, views, roles and users by one command each, without looking first."""
    with connect(settings) as connection:
        for collection in declared.collections:
            connection[DATABASE].command(create_collection(DATABASE, collection).document)
            for index in _indexes(collection):
                connection[DATABASE].command(index)
        commands = [create_view(DATABASE, view) for view in declared.views]
        commands += [create_role(DATABASE, role) for role in declared.roles]
        commands += [create_user(user, passwords[user.name]) for user in declared.users]
        for command in commands:
            connection[command.database].command(command.document)


def _indexes(collection: Collection) -> list[dict[str, Any]]:
    specifications = [index_specification(index) for index in collection.indexes]
    return [create_index(DATABASE, collection.name, specification).document for specification in specifications]


def measure(folder: Path, collections: int, rounds: int) -> dict[str, float]:
    """Return the median seconds of each side; the rounds of both sides alternate."""
    declared = declared_with(collections)
    passwords = {user: secrets.token_urlsafe(32) for user in mongodb.users(declared)}
    found: dict[str, list[float]] = {name: [] for name in ("plan", "read", "apply", "make")}
    for number in range(rounds):
        safe = mongodb_security.issue(folder / f"tls-{number}")
        with sandbox.start(folder / f"make-{number}", security=safe) as settings:
            found["make"].append(seconds(lambda s=settings: make_by_driver(s, declared, passwords)))  # type: ignore[misc]
        with sandbox.start(folder / f"apply-{number}", security=safe) as settings:
            found["apply"].append(seconds(lambda s=settings: mongodb.apply(s, declared, passwords)))  # type: ignore[misc]
            for _ in range(rounds):
                found["plan"].append(seconds(lambda s=settings: _plan(s, declared, passwords)))  # type: ignore[misc]
                found["read"].append(seconds(lambda s=settings: read_by_driver(s, passwords)))  # type: ignore[misc]
    return {name: statistics.median(times) for name, times in found.items()}


def _plan(settings: MongoDBSettings, declared: Declared, passwords: dict[str, str]) -> None:
    planned = mongodb.plan(settings, declared, passwords)
    if planned:
        raise click.ClickException(f"the plan is not empty after apply: {planned.changes[0].target}")


@click.command()
@click.option("--collections", default=50, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(collections: int, rounds: int, as_json: bool) -> None:
    """Measure plan and apply on COLLECTIONS collections, their indexes, eight users and eight roles, over TLS."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        result = measure(Path(name), collections, rounds)
    ratios = {"plan_to_read": result["plan"] / result["read"], "apply_to_make": result["apply"] / result["make"]}
    if as_json:
        click.echo(json.dumps({"collections": collections, "seconds": result, **ratios}, indent=2))
        return
    click.echo(f"{collections} collections, median of {rounds * rounds} and {rounds} rounds")
    click.echo(f"plan   {result['plan']:.2f} s = {ratios['plan_to_read']:.2f} x reading and logging on by the driver")
    click.echo(f"apply  {result['apply']:.2f} s = {ratios['apply_to_make']:.2f} x making the same by the driver")


if __name__ == "__main__":
    main()
