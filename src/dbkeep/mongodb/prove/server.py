"""A throw-away mongod made from the declared state, as mongod.conf starts one, and the worlds on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from chat_api.configuration import Address, Configuration, Credentials
from chat_api.stores.mongodb import MongoDB
from dbkeep import mongodb
from dbkeep.checks.access import agreed_tls
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import Client, administrator, client
from dbkeep.mongodb.models import Declared
from dbkeep.mongodb.prove.world import Connect, World
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.sandbox import mongodb_security
from dbkeep.secrets import new_password
from dbkeep.settings import MongoDBSettings

# Data and journal of a throw-away server are worth no disk.
MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own in it
MEMORY_NEEDED = 1 << 30
# What roles/mongodb/templates/mongod.conf.j2 sets and a sandbox does not.
AS_CONFIGURED: Mapping[str, str | None] = {
    "--noscripting": "",
    "--tlsDisabledProtocols": "TLS1_0,TLS1_1",
    "--networkMessageCompressors": "snappy,zstd",
}
# Expired documents go within a second, not within a minute.
SOONER = {"ttlMonitorSleepSecs": "1"}


@dataclass(frozen=True, slots=True)
class Startup:
    """How a server is started otherwise: options of mongod (None leaves one out) and parameters."""

    options: Mapping[str, str | None] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


class Server:
    """One mongod on a folder. `settings` reaches it as its administrator while it runs."""

    def __init__(self, folder: Path, declared: Declared) -> None:
        self.declared = declared
        self.passwords = {name: new_password() for name in mongodb.users(declared)}
        self.security = mongodb_security.issue(folder / "security")
        self.settings: MongoDBSettings
        self._folder, self._startup = folder, Startup()
        self._running = ExitStack()
        self._numbers = count(1)
        self._memory: dict[str, Any] = {}

    def start(self, startup: Startup | None = None) -> None:
        """Start the server, with the data of its last run."""
        self._startup = startup or Startup()
        self.settings = self._running.enter_context(self._start("server", self._startup, initiate=startup is None))
        bootstrap.wait_for_primary(self.settings)

    def stop(self) -> None:
        self._running.close()

    @contextmanager
    def otherwise(self, startup: Startup) -> Iterator[None]:
        """Run the server in another way; in its own way again at the end."""
        self.stop()
        self.start(startup)
        try:
            yield
        finally:
            self.stop()
            self.start()

    @contextmanager
    def world(self) -> Iterator[World]:
        """Yield the server as a world that may be spoilt."""
        with World(
            self.declared,
            self._connect,
            open_administrator=lambda: client(self.settings, direct=True, **administrator(self.settings)),
            empty=self._empty,
            log=self._folder / "server" / "mongod.log",
            store=self._store,
            tls_version=lambda at_most: agreed_tls(self.settings.port, self.security.ca_file, at_most=at_most),
            memory=self._memory,
        ) as world:
            yield world

    @contextmanager
    def _empty(self) -> Iterator[Connect]:
        name = f"empty-{next(self._numbers)}"
        with self._start(name, self._startup, initiate=False) as settings:
            yield lambda **options: client(settings, direct=True, **options)
        shutil.rmtree(self._folder / name)

    def _store(self) -> MongoDB:
        """The API's own way to its collections, as its user."""
        configuration = Configuration.model_construct(
            ca_file=self.security.ca_file,
            mongodb_hosts=[Address(host=self.settings.host, port=self.settings.port)],
            mongodb_replica_set=self.settings.replica_set,
            mongodb_database=self.declared.database,
        )
        password = SecretStr(self.passwords["chat_api"])
        return MongoDB(configuration, Credentials.model_construct(mongodb_chat_api=password))

    def _start(self, name: str, startup: Startup, *, initiate: bool) -> Any:
        declared = {parameter.name: spelt(parameter.value) for parameter in self.declared.server.parameters}
        return sandbox.start(
            self._folder / name,
            security=self.security,
            parameters=declared | SOONER | dict(startup.parameters),
            options={**AS_CONFIGURED, **startup.options},
            initiate=initiate,
        )

    def _connect(self, user: str | None = None, **options: Any) -> Client:
        """Return a client of its own as `user`, which it logs on only when it is used."""
        credentials: dict[str, Any] = {}
        if user is not None:
            credentials = {"username": user, "password": self.passwords[user], "authSource": "admin"}
            credentials |= {"authMechanism": "SCRAM-SHA-256"}
        return client(self.settings, direct=True, **(credentials | options))


def spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@contextmanager
def start(declared: Declared) -> Iterator[Server]:
    """Start a server as declared; stop it at the end.

    Raises UsageError when there is no mongod, ApplyError when the declared state cannot be applied.
    """
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-prove-", dir=_memory()))
    try:
        server = Server(folder, declared)
        server.start()
        try:
            mongodb.apply(server.settings, declared, server.passwords)
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _memory() -> Path | None:
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        return MEMORY
    return None
