"""A live server of an environment as a world: real users over TLS, by the application's way; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.errors import PyMongoError

from dbkeep import mongodb
from dbkeep.checks.access import Access
from dbkeep.environment import Environment, Host
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.mongodb.connect import Client, describe
from dbkeep.mongodb.models import Declared
from dbkeep.mongodb.prove.world import World


@contextmanager
def live(environment: Environment, declared: Declared) -> Iterator[World]:
    """Yield the environment's primary as a world.

    Raises UsageError when the environment has no MongoDB host, lacks a password, or its host cannot be reached, and
    DbkeepError when the server asks for no rights: then nothing is tried, because nothing would be refused.
    """
    for user in mongodb.users(declared):
        if user not in environment.secrets.get("mongodb", {}):
            raise UsageError(f"environment {environment.name} has no secret for {user}: run `dbkeep init`")
    with Access(environment) as access:
        host = _primary(environment, access, declared)

        def connect(user: str | None = None, **options: Any) -> Client:
            return access.mongodb(host, user, **options)

        def tls_version(at_most: Any) -> str | None:
            return access.tls_version(host, "mongodb_port", at_most=at_most)

        with World(declared, connect, tls_version=tls_version) as world:
            with _answers(host):
                asks = world.attempt(None, world.database, {"listCollections": 1}).is_denied
            if not asks:
                raise DbkeepError(f"{host.name}: MongoDB asks for no logon, so nothing was tried: see `dbkeep check`")
            yield world


@contextmanager
def _answers(host: Host) -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        raise DbkeepError(f"{host.name}: MongoDB: {describe(error)}: see `dbkeep check`") from None


def _primary(environment: Environment, access: Access, declared: Declared) -> Host:
    hosts = environment.hosts("mongodb")
    if not hosts:
        raise UsageError(f"environment {environment.name} has no host in group mongodb")
    for host in hosts:
        with _answers(host), access.mongodb(host, declared.users[0].name) as client:
            if client.admin.command("hello").get("isWritablePrimary"):
                return host
    raise DbkeepError(f"none of {', '.join(host.name for host in hosts)} is the primary: see `dbkeep check`")
