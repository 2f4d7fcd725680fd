"""Both declared instances as real servers, converged once; every test leaves them converged."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep import redis as engine
from dbkeep.plan import Change
from dbkeep.redis.connect import connect as as_admin
from dbkeep.redis.statements import configuration_file, directives
from dbkeep.sandbox import redis_packages
from dbkeep.sandbox.redis import Program, find_programs, installed_version, start
from dbkeep.settings import RedisInstance, RedisSettings

ROOT = Path(__file__).parents[3]
MEMORY_BYTES = 80 * 1024 * 1024
Connect = Callable[[str, str], redis.Redis]
# What Debian 12 and 13 have: the first is installed, `./dbkeep test` unpacks the others.
SERVERS = ("Redis 7.0", "Redis 8.0", "Valkey 8.1")


def password_file(instance: RedisInstance) -> Path:
    """Return the file of the administrator's password, which every server of the sandbox has."""
    assert instance.password_file is not None
    return instance.password_file


@dataclass(frozen=True)
class Site:
    """Both declared instances on one kind of server, converged, with files that the next start would read."""

    settings: RedisSettings
    declared: engine.Declared
    passwords: dict[str, str]

    def plan(self) -> list[Change]:
        return list(engine.plan(self.settings, self.declared, self.passwords))

    def apply(self, *, allow_destructive: bool = False) -> tuple[Change, ...]:
        return engine.apply(self.settings, self.declared, self.passwords, allow_destructive=allow_destructive)

    def run(self, instance: str, *commands: Sequence[str | int]) -> list[object]:
        with as_admin(instance, self.settings.instances[instance], self.passwords["admin"]) as client:
            return [client.execute_command(*command) for command in commands]  # type: ignore[no-untyped-call]

    def file(self, instance: str) -> Path:
        path = self.settings.instances[instance].config_file
        assert path is not None
        return path

    def declaring(self, instance: str, **changed: engine.Declared | bool | int | str) -> Site:
        """The same servers, whose instance is declared with other settings (`_` for `-`)."""
        own = self.declared.instances.instances[instance]
        more = {name.replace("_", "-"): value for name, value in changed.items()}
        own = own.model_copy(update={"settings": {**own.settings, **more}})
        instances = self.declared.instances.model_copy(
            update={"instances": {**self.declared.instances.instances, instance: own}}
        )
        return Site(self.settings, self.declared.model_copy(update={"instances": instances}), self.passwords)


@pytest.fixture(scope="session")
def programs() -> dict[str, Program]:
    redis_packages.install()
    return {
        f"{program.server.capitalize()} {program.version[0]}.{program.version[1]}": program
        for program in find_programs()
    }


@pytest.fixture(scope="session")
def of_server(
    declared: engine.Declared,
    passwords: dict[str, str],
    programs: dict[str, Program],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Site]]:
    """Return a function: one of SERVERS -> its site, started when first asked for."""
    with ExitStack() as stack:

        @cache
        def site(name: str) -> Site:
            program = programs[name]
            texts = {
                each: directives(declared, each, program.version, {}, MEMORY_BYTES)
                for each in declared.instances.instances
            }
            folder = tmp_path_factory.mktemp(program.server)
            started = stack.enter_context(start(folder, texts, memory_bytes=MEMORY_BYTES, program=program))
            instances = {}
            for each, instance in started.instances.items():
                file = folder / f"{each}.conf"
                file.write_text(configuration_file(texts[each]), encoding="utf-8")
                instances[each] = instance.model_copy(update={"config_file": file})
            found = Site(started.model_copy(update={"instances": instances}), declared, passwords)
            found.apply()
            assert found.plan() == []
            return found

        yield site


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
                password=password_file(reached).read_text().strip() if user == "admin" else passwords[user],
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
