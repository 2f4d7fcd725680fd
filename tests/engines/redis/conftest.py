"""Both declared instances as real servers, converged once; every test leaves them converged."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep import redis as engine
from dbkeep.redis.statements import directives
from dbkeep.sandbox.redis import installed_version, start
from dbkeep.settings import RedisSettings

ROOT = Path(__file__).parents[3]
MEMORY_BYTES = 80 * 1024 * 1024
Connect = Callable[[str, str], redis.Redis]


@pytest.fixture(scope="session")
def declared() -> engine.Declared:
    return engine.read_declared(ROOT)


@pytest.fixture(scope="session")
def passwords(declared: engine.Declared) -> dict[str, str]:
    return {user: secrets.token_urlsafe(32) for user in engine.users(declared)}


@pytest.fixture(scope="session")
def empty(declared: engine.Declared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSettings]:
    """Servers as the role starts them: declared settings, no user but admin, no function."""
    version = installed_version()
    instances = {name: directives(declared, name, version, {}, MEMORY_BYTES) for name in declared.instances.instances}
    with start(tmp_path_factory.mktemp("redis"), instances, memory_bytes=MEMORY_BYTES) as settings:
        yield settings


@pytest.fixture(scope="session")
def first_plan(empty: RedisSettings, declared: engine.Declared, passwords: dict[str, str]) -> list[str]:
    return [f"{change.kind} {change.target}" for change in engine.plan(empty, declared, passwords)]


@pytest.fixture(scope="session")
def settings(
    empty: RedisSettings, first_plan: list[str], declared: engine.Declared, passwords: dict[str, str]
) -> RedisSettings:
    assert len(engine.apply(empty, declared, passwords)) == len(first_plan)
    return empty


@pytest.fixture
def connect(settings: RedisSettings, passwords: dict[str, str]) -> Iterator[Connect]:
    """Return a function (user, instance) -> connection; the administrator's password is the host's own."""
    with ExitStack() as stack:

        def connection(user: str, instance: str) -> redis.Redis:
            reached = settings.instances[instance]
            client = redis.Redis(
                unix_socket_path=str(reached.socket),
                username=user,
                password=reached.password_file.read_text().strip() if user == "admin" else passwords[user],
                decode_responses=True,
                retry=Retry(NoBackoff(), 0),
            )
            stack.callback(client.close)
            return client

        yield connection


@pytest.fixture(autouse=True)
def _ends_converged(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], connect: Connect
) -> Iterator[None]:
    yield
    for instance in settings.instances:
        connect("admin", instance).flushall()
    assert engine.plan(settings, declared, passwords).changes == ()
