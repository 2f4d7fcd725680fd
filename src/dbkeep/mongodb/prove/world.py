"""A world: one server that holds the declared state, and real connections to it as its real users."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from chat_api.stores.mongodb import MongoDB
from dbkeep.mongodb.connect import Client, Document, describe
from dbkeep.mongodb.migrations.lock import RECORDS
from dbkeep.mongodb.models import Collection, Declared
from dbkeep.mongodb.prove.attempts import Attempt, attempt
from dbkeep.mongodb.prove.privileges import ADMINISTRATION, actions_on, declared_privileges

TLSVersion = Callable[[ssl.TLSVersion], str | None]
# A client, as a user or not logged on; keywords of MongoClient go before those that are chosen.
Connect = Callable[..., Client]


class World:
    """`first` are names of what to try before the rest. `connect` logs on as a user, or without one not at all.

    A copy may be spoilt: only there is there an administrator, a log to read, an empty server beside it, and a `store`
    of the API. `tls_version` says to which version at most the server agrees. `memory` keeps what is made from the
    declared state alone, so that worlds of one server need not make it again.
    """

    errors: tuple[type[Exception], ...] = (PyMongoError,)

    def __init__(
        self,
        declared: Declared,
        connect: Connect,
        *,
        open_administrator: Callable[[], Client] | None = None,
        empty: Callable[[], AbstractContextManager[Connect]] | None = None,
        log: Path | None = None,
        store: Callable[[], MongoDB] | None = None,
        tls_version: TLSVersion,
        memory: dict[str, Any] | None = None,
    ) -> None:
        self.declared, self.connect = declared, connect
        self._open_administrator, self._empty, self._log = open_administrator, empty, log
        self.store, self.tls_version = store, tls_version
        self.memory = {} if memory is None else memory
        self.first: frozenset[str] = frozenset()
        self._stack = ExitStack()
        self._clients: dict[str | None, Client] = {}
        self._built_in: dict[str, list[Document]] | None = None

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def describe(self, error: Exception) -> str:
        return describe(error) if isinstance(error, PyMongoError) else str(error)

    @property
    def is_copy(self) -> bool:
        return self._open_administrator is not None

    @property
    def database(self) -> str:
        return self.declared.database

    @property
    def names(self) -> list[str]:
        """The declared collections and views."""
        return [*(part.name for part in self.declared.collections), *(view.name for view in self.declared.views)]

    @property
    def users(self) -> list[str]:
        """The users, those to try `first` first; the roles of a user count as its names too."""
        names = {user.name: {user.name, *user.roles} for user in self.declared.users}
        return sorted(names, key=lambda name: not names[name] & self.first)

    @property
    def collections(self) -> list[Collection]:
        """The collections that validate documents, those to try `first` first."""
        validating = [collection for collection in self.declared.collections if collection.validator]
        return sorted(validating, key=lambda collection: collection.name not in self.first)

    def client(self, user: str | None) -> Client:
        """Return the world's own client as `user`, or as nobody."""
        if user not in self._clients:
            self._clients[user] = self._stack.enter_context(self.connect(user))
        return self._clients[user]

    def administrator(self) -> Client:
        """Return a client that nothing binds. Raises ValueError where the world is a live server."""
        if self._open_administrator is None:
            raise ValueError("a live server is never touched as its administrator")
        if "" not in self._clients:
            self._clients[""] = self._stack.enter_context(self._open_administrator())
        return self._clients[""]

    def empty(self) -> AbstractContextManager[Connect]:
        """Yield how to reach another server, started alike, that has no user yet. Only beside a copy."""
        if self._empty is None:
            raise ValueError("beside a live server none is started")
        return self._empty()

    @property
    def log(self) -> Path:
        """The log of a copy."""
        if self._log is None:
            raise ValueError("the log of a live server is not read")
        return self._log

    def reset(self) -> None:
        """Remove from a copy what probes and mutants left: documents, collections, what the profiler kept."""
        database = self.administrator()[self.database]
        for name in database.list_collection_names(filter={"type": "collection"}):
            if name in self.names:
                database[name].delete_many({})
            elif name not in {RECORDS, "system.views"}:
                database.drop_collection(name)

    def attempt(self, user: str | None, database: str, command: Document, **options: Any) -> Attempt:
        """Try a command as `user`, or as nobody."""
        return attempt(self.client(user), database, command, **options)

    @contextmanager
    def aborted(self, user: str) -> Iterator[tuple[Client, ClientSession]]:
        """Yield a transaction as `user`, of which nothing stays."""
        client = self.client(user)
        with client.start_session() as session:
            session.start_transaction()
            try:
                yield client, session
            finally:
                session.abort_transaction()

    def may(self, user: str, action: str, collection: str) -> bool:
        """Return whether `user` is declared to have `action` on a collection, or on the database when that is empty."""
        return action in actions_on(self.declared_privileges(user), self.database, collection)

    def who_may(self, action: str, collection: str) -> str | None:
        """Return the first user that is declared to have `action` there, None when nobody is."""
        return next((user.name for user in self.declared.users if self.may(user.name, action, collection)), None)

    def declared_privileges(self, user: str) -> list[Document]:
        """Return what `user` is declared to have, with what built-in roles bring as the server explains them."""
        return declared_privileges(self.declared, user, self.built_in)

    @property
    def built_in(self) -> dict[str, list[Document]]:
        """What each built-in role brings that a declared one inherits; no server lets anybody change these."""
        if self._built_in is None:
            self._built_in = self._ask_built_in()
        return self._built_in

    def granted_privileges(self, user: str) -> list[Document]:
        """Return what the server lets `user` do: what it says to a session of that user."""
        reply = self.client(user).admin.command("connectionStatus", showPrivileges=True)
        return list(reply["authInfo"]["authenticatedUserPrivileges"])

    def _ask_built_in(self) -> dict[str, list[Document]]:
        own = {role.name for role in self.declared.roles}
        names = sorted({name for role in self.declared.roles for name in role.roles} - own)
        if not names:
            return {}
        asking = self.administrator() if self.is_copy else self.client(self._who_sees_roles())
        question = {"rolesInfo": [{"role": name, "db": ADMINISTRATION} for name in names], "showPrivileges": True}
        found = asking[ADMINISTRATION].command(question)["roles"]
        return {role["role"]: role["inheritedPrivileges"] for role in found}

    def _who_sees_roles(self) -> str | None:
        privileges = {user.name: declared_privileges(self.declared, user.name, {}) for user in self.declared.users}
        seeing = (name for name, own in privileges.items() if "viewRole" in actions_on(own, ADMINISTRATION, ""))
        return next(seeing, None)
