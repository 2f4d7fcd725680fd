"""One real server for the folder's tests, made as declared in this checkout."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from chat_api import context
from dbkeep import postgresql
from dbkeep.postgresql import Declared, context_keys
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import new_password
from dbkeep.settings import PostgreSQLSettings

ROOT = Path(__file__).parents[3]
Session = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Session]


@pytest.fixture(scope="session")
def servers() -> Iterator[Path]:
    """A short folder that the server's own user can reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-pg-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def declared() -> Declared:
    return postgresql.read_declared(ROOT)


@pytest.fixture(scope="session")
def secrets(declared: Declared) -> dict[str, str]:
    passwords = {name: f"password of {name}" for name in postgresql.users(declared)}
    return {**passwords, "context_key": new_password()}


@pytest.fixture(scope="session")
def empty(servers: Path) -> Iterator[PostgreSQLSettings]:
    """A server with nothing on it."""
    with sandbox.start(servers / "empty") as settings:
        yield settings


@pytest.fixture(scope="session")
def server(servers: Path, declared: Declared, secrets: dict[str, str]) -> Iterator[PostgreSQLSettings]:
    """A server that is as declared; a test that breaks it mends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with sandbox.start(
        servers / "server", listen_addresses="127.0.0.1", port=port, options={"log_statement": "all"}
    ) as settings:
        postgresql.apply(settings, declared, secrets)
        yield settings


@pytest.fixture(scope="session")
def of_version(
    servers: Path, declared: Declared, secrets: dict[str, str], server: PostgreSQLSettings
) -> Iterator[Callable[[int], PostgreSQLSettings]]:
    """Returns a server of that major version that is as declared; a test that breaks it mends it."""
    with ExitStack() as running:
        known = {int(postgresql.version(server).split(".")[0]): server}

        def start(version: int) -> PostgreSQLSettings:
            if version not in known:
                settings = running.enter_context(sandbox.start(servers / f"v{version}", version=version))
                postgresql.apply(settings, declared, secrets)
                known[version] = settings
            return known[version]

        yield start


@pytest.fixture(scope="session")
def signed_server(servers: Path, secrets: dict[str, str]) -> Iterator[PostgreSQLSettings]:
    """A server that is as declared in an environment that wants its contexts signed."""
    with sandbox.start(servers / "signed", options={"log_statement": "all"}) as settings:
        postgresql.apply(settings, postgresql.read_declared(ROOT, context="signed"), secrets)
        yield settings


@pytest.fixture(scope="session")
def signer(secrets: dict[str, str]) -> context.Signer:
    """Signs with the key that both servers have."""
    return context.Signer(context_keys.keys(secrets["context_key"]))


@pytest.fixture(scope="session")
def open_sessions() -> Callable[[PostgreSQLSettings], Connect]:
    """Returns what opens a session of any role in any database of a server, in autocommit mode."""

    def at(server: PostgreSQLSettings) -> Connect:
        def open_session(role: str = "postgres", database: str = "chat") -> Session:
            return psycopg.connect(
                host=str(server.socket_directory), port=server.port, user=role, dbname=database, autocommit=True
            )

        return open_session

    return at


@pytest.fixture(scope="session")
def registrar() -> Callable[[Connect], Callable[[str], UUID]]:
    """Returns what registers a user as app_auth does and returns its id."""

    def at(connect: Connect) -> Callable[[str], UUID]:
        def make(name: str) -> UUID:
            user = uuid4()
            username = f"{name}-{user}"
            with connect("app_auth") as session, session.transaction():
                session.execute(
                    "INSERT INTO chat.users (id, email, email_index, username, password_hash)"
                    " VALUES (%s, 'e1:x', %s, %s, %s)",
                    [user, user.bytes * 2, username, "$argon2id$v=19$m=1,t=1,p=1$c2FsdA$aGFzaA"],
                )
                session.execute(
                    "INSERT INTO chat.profiles (id, user_id, display_name) VALUES (%s, %s, %s)", [uuid4(), user, name]
                )
            return user

        return make

    return at


@pytest.fixture(scope="session")
def connect(server: PostgreSQLSettings, open_sessions: Callable[[PostgreSQLSettings], Connect]) -> Connect:
    return open_sessions(server)


@pytest.fixture(scope="session")
def register(connect: Connect, registrar: Callable[[Connect], Callable[[str], UUID]]) -> Callable[[str], UUID]:
    return registrar(connect)
