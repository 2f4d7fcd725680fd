"""Row security is tried as the real roles, in a database with a plain context and in one that wants it signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from chat_api import context
from dbkeep.settings import PostgreSQLSettings

Session = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Session]
Register = Callable[[str], UUID]
ActFor = Callable[[Session, UUID], None]


@pytest.fixture(scope="session", params=["plain", "signed"])
def mode(request: pytest.FixtureRequest) -> str:
    """Every test of this folder runs in both contexts."""
    return str(request.param)


@pytest.fixture(scope="session")
def server(mode: str, server: PostgreSQLSettings, signed_server: PostgreSQLSettings) -> PostgreSQLSettings:
    return {"plain": server, "signed": signed_server}[mode]


# pytest keeps one value of a session's fixture, whatever overridden one it was made with: these are made anew.
@pytest.fixture(scope="session")
def connect(server: PostgreSQLSettings, open_sessions: Callable[[PostgreSQLSettings], Connect]) -> Connect:
    return open_sessions(server)


@pytest.fixture(scope="session")
def register(connect: Connect, registrar: Callable[[Connect], Register]) -> Register:
    return registrar(connect)


@pytest.fixture(scope="session")
def act_for(mode: str, signer: context.Signer) -> ActFor:
    """Sets whom the transaction of a session acts for."""

    def act(session: Session, user: UUID) -> None:
        value = signer.sign(user, session.info.backend_pid) if mode == "signed" else context.plain(user)
        session.execute("SELECT set_config('app.user_id', %s, true)", [value])

    return act


@pytest.fixture(scope="module")
def alice(register: Register) -> UUID:
    return register("alice")


@pytest.fixture(scope="module")
def bob(register: Register) -> UUID:
    return register("bob")


@pytest.fixture
def acting(connect: Connect, act_for: ActFor) -> Callable[[UUID | str | None], Any]:
    """A transaction of app_api for a user, rolled back at its end; a string is taken as the context itself."""

    @contextmanager
    def begin(user: UUID | str | None) -> Iterator[Session]:
        with connect("app_api") as session, session.transaction(force_rollback=True):
            if isinstance(user, UUID):
                act_for(session, user)
            elif user is not None:
                session.execute("SELECT set_config('app.user_id', %s, true)", [user])
            yield session

    return begin
