"""One real server with access control and TLS, made as declared in this checkout; every test leaves it converged."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dbkeep import mongodb as engine
from dbkeep.mongodb.connect import Client, client, connect
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox import mongodb_security
from dbkeep.settings import MongoDBSettings

ROOT = Path(__file__).parents[3]
As = Callable[[str], Client]


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="dbkeep-mongodb-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def security(folder: Path) -> sandbox.Security:
    return mongodb_security.issue(folder)


@pytest.fixture(scope="session")
def declared() -> engine.Declared:
    return engine.read_declared(ROOT)


@pytest.fixture(scope="session")
def passwords(declared: engine.Declared) -> dict[str, str]:
    return {user: secrets.token_urlsafe(32) for user in engine.users(declared)}


@pytest.fixture(scope="session")
def empty(folder: Path, security: sandbox.Security) -> Iterator[MongoDBSettings]:
    """A replica set with its administrator and nothing else."""
    with sandbox.start(
        folder / "server", security=security, parameters={"scramSHA256IterationCount": "5000"}
    ) as settings:
        yield settings


@pytest.fixture(scope="session")
def first_plan(empty: MongoDBSettings, declared: engine.Declared, passwords: dict[str, str]) -> list[str]:
    return [f"{change.kind} {change.target}" for change in engine.plan(empty, declared, passwords)]


@pytest.fixture(scope="session")
def settings(
    empty: MongoDBSettings, first_plan: list[str], declared: engine.Declared, passwords: dict[str, str]
) -> MongoDBSettings:
    assert len(engine.apply(empty, declared, passwords)) == len(first_plan)
    return empty


@pytest.fixture(scope="session")
def administrator(settings: MongoDBSettings) -> Iterator[Client]:
    with connect(settings) as connection:
        yield connection


@pytest.fixture(scope="session")
def as_user(settings: MongoDBSettings, passwords: dict[str, str]) -> Iterator[As]:
    """Return a function that gives a session of a declared user over TLS, as a service has it."""
    with ExitStack() as stack:

        def session(user: str) -> Client:
            opened = client(
                settings,
                username=user,
                password=passwords[user],
                authSource="admin",
                authMechanism="SCRAM-SHA-256",
            )
            return stack.enter_context(opened)

        yield session
