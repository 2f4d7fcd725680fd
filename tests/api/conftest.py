"""The API as it runs in production, as a process over TLS, before real servers in their declared state."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from dbkeep import mongodb, postgresql, redis
from dbkeep.environment import checkout
from dbkeep.ports import free_port
from dbkeep.redis.statements import directives
from dbkeep.sandbox import mongodb as mongodb_sandbox
from dbkeep.sandbox import postgresql as postgresql_sandbox
from dbkeep.sandbox import redis as redis_sandbox
from dbkeep.sandbox.authority import Authority
from dbkeep.settings import MongoDBSettings, PostgreSQLSettings, RedisSettings

ENGINES = ("postgresql", "mongodb", "redis_state", "redis_cache")
READY_SECONDS = 60
REDIS_BYTES = 80 * 1024 * 1024
PASSWORD = "correct horse battery staple"


@dataclass
class Servers:
    """The three engines in one folder, each prepared by its own `apply`; each can be stopped and started."""

    folder: Path
    authority: Authority
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in ENGINES})
    passwords: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    running: dict[str, ExitStack] = field(default_factory=dict)
    postgresql: PostgreSQLSettings | None = None
    mongodb: MongoDBSettings | None = None
    instances: dict[str, RedisSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, engine in (("postgresql", postgresql), ("mongodb", mongodb), ("redis", redis)):
            users = engine.users(engine.read_declared(checkout()))
            self.passwords[name] = {user: secrets.token_urlsafe(32) for user in users}
        self.context_key = secrets.token_urlsafe(32)
        certificate, key, _ = self.authority.issue("postgresql", ("postgres", "nobody"))
        self.postgresql_tls = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        self.redis_tls = self.authority.issue("redis", ("redis", "nobody"))
        self.security = self.authority.mongodb()

    def start(self, name: str) -> None:
        """Start an engine and make it what the checkout declares."""
        stack = self.running[name] = ExitStack()
        {"postgresql": self._postgresql, "mongodb": self._mongodb}.get(name, lambda s: self._redis(name, s))(stack)

    def stop(self, name: str) -> None:
        self.running.pop(name).close()

    def stop_all(self) -> None:
        for name in list(self.running):
            self.stop(name)

    def api_environment(self, credentials: Path) -> dict[str, str]:
        """Return the environment of an API before these servers, with a port of its own."""
        return {
            "PATH": os.defpath,
            "CREDENTIALS_DIRECTORY": str(credentials),
            "CHAT_API_LISTEN_PORT": str(free_port()),
            "CHAT_API_CA_FILE": str(self.authority.file),
            "CHAT_API_POSTGRESQL_HOSTS": f"127.0.0.1:{self.ports['postgresql']}",
            "CHAT_API_MONGODB_HOSTS": f"127.0.0.1:{self.ports['mongodb']}",
            "CHAT_API_REDIS_STATE": f"127.0.0.1:{self.ports['redis_state']}",
            "CHAT_API_REDIS_CACHE": f"127.0.0.1:{self.ports['redis_cache']}",
        }

    def _postgresql(self, stack: ExitStack) -> None:
        settings = stack.enter_context(
            postgresql_sandbox.start(
                self.folder / "postgresql",
                port=self.ports["postgresql"],
                listen_addresses="127.0.0.1",
                options=self.postgresql_tls,
            )
        )
        # The stricter of the two: a database that takes contexts plain takes signed ones too.
        declared = postgresql.read_declared(checkout(), context="signed")
        postgresql.apply(settings, declared, {**self.passwords["postgresql"], "context_key": self.context_key})
        self.postgresql = settings

    def _mongodb(self, stack: ExitStack) -> None:
        settings = stack.enter_context(
            mongodb_sandbox.start(self.folder / "mongodb", security=self.security, port=self.ports["mongodb"])
        )
        mongodb.apply(settings, mongodb.read_declared(checkout()), self.passwords["mongodb"])
        self.mongodb = settings

    def _redis(self, name: str, stack: ExitStack) -> None:
        instance = name.removeprefix("redis_")
        certificate, key, _ = self.redis_tls
        listener = redis_sandbox.TLS(self.ports[name], certificate, key, self.authority.file)
        declared = redis.read_declared(checkout())
        started_as = directives(declared, instance, redis_sandbox.installed_version(), {}, REDIS_BYTES)
        settings = stack.enter_context(
            redis_sandbox.start(
                self.folder / "redis", {instance: started_as}, tls={instance: listener}, memory_bytes=REDIS_BYTES
            )
        )
        only = declared.instances.model_copy(update={"instances": {instance: declared.instances.instances[instance]}})
        redis.apply(settings, declared.model_copy(update={"instances": only}), self.passwords["redis"])
        self.instances[name] = settings


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    # The servers' own users must be able to enter it, and a socket's path must be short: not pytest's folder.
    with tempfile.TemporaryDirectory(prefix="dbkeep-api-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        made = Servers(folder, Authority(folder))
        try:
            for engine in ENGINES:
                made.start(engine)
            yield made
        finally:
            made.stop_all()


@dataclass
class Service:
    """A running `python -m chat_api`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    client: httpx.Client


def write_credentials(servers: Servers) -> Path:
    """Make the folder that systemd's LoadCredential= would make."""
    folder = servers.folder / "credentials"
    folder.mkdir(mode=0o700)
    certificate, key, _ = servers.authority.issue("chat_api")
    shutil.copyfile(certificate, folder / "tls_certificate")
    shutil.copyfile(key, folder / "tls_key")
    values = {f"{engine}_{user}": word for engine, users in servers.passwords.items() for user, word in users.items()}
    values["context_key"] = servers.context_key
    for key_name in ("token_key", "field_key", "blind_index_key"):
        values[key_name] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    for value_name, value in values.items():
        (folder / value_name).write_text(value, encoding="ascii")
    return folder


@pytest.fixture(scope="session")
def credentials(servers: Servers) -> Path:
    return write_credentials(servers)


@pytest.fixture(scope="session")
def environment(servers: Servers, credentials: Path) -> dict[str, str]:
    return servers.api_environment(credentials)


@pytest.fixture(scope="session")
def service(servers: Servers, environment: dict[str, str]) -> Iterator[Service]:
    log = servers.folder / "chat_api.log"
    url = f"https://localhost:{environment['CHAT_API_LISTEN_PORT']}"
    trust = ssl.create_default_context(cafile=str(servers.authority.file))
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "chat_api"], env=environment, stdout=output, stderr=output)
    try:
        with httpx.Client(base_url=url, verify=trust, timeout=20, trust_env=False) as client:
            wait_until_ready(client, process, log)
            yield Service(process, url, log, client)
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with suppress(httpx.TransportError):
            if client.get("/health/ready").is_success:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the API is not ready; its log:\n{log.read_text(encoding='utf-8')}")
        time.sleep(0.1)


@dataclass
class User:
    """A registered user who is logged in."""

    id: str
    username: str
    email: str
    refresh_token: str = field(repr=False)
    api: httpx.Client


@pytest.fixture(scope="session")
def new_user(service: Service, servers: Servers) -> Iterator[Callable[..., User]]:
    trust = ssl.create_default_context(cafile=str(servers.authority.file))
    with ExitStack() as stack:

        def make(name: str = "user") -> User:
            username = f"{name}-{uuid4().hex[:12]}"
            email = f"{username}@example.org"
            body = {"username": username, "email": email, "password": PASSWORD}
            registered = service.client.post("/auth/register", json=body)
            assert registered.status_code == 201, registered.text
            tokens = service.client.post("/auth/login", json={"login": username, "password": PASSWORD})
            assert tokens.status_code == 200, tokens.text
            headers = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
            api = httpx.Client(base_url=service.url, verify=trust, timeout=20, trust_env=False, headers=headers)
            stack.enter_context(api)
            return User(registered.json()["id"], username, email, tokens.json()["refresh_token"], api)

        yield make


@pytest.fixture(scope="session")
def trio(new_user: Callable[..., User]) -> tuple[User, User, User]:
    """Three users for tests that leave no trace between them but conversations."""
    return new_user("ada"), new_user("grace"), new_user("eve")
