"""A world: the instances as declared, with planted keys, and real connections to them as real users over TLS."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Protocol

import redis

from dbkeep.checks.access import agreed_tls, verifying
from dbkeep.errors import DbkeepError
from dbkeep.redis.connect import connect
from dbkeep.redis.declared import ADMIN, Declared
from dbkeep.redis.prove import commands, reach
from dbkeep.redis.prove.attempts import Attempt, attempt
from dbkeep.redis.prove.commands import Command
from dbkeep.redis.prove.seed import MARK, SECONDS, Seed
from dbkeep.sandbox.redis import Program
from dbkeep.settings import RedisSettings

Open = Callable[..., redis.Redis]
"""Takes instance, user (None: not logged on) and options of the driver; `plain=True` leaves TLS out."""
# What an auditor must hold for the matrix: the table of commands, and the server's answer about each of them.
AUDITS = ("acl|cat", "acl|dryrun", "acl|list", "command|docs", "command|info", "command|getkeysandflags", "config|get")
ANSWER_SECONDS = 20


class ThrowAway(Protocol):
    """Servers of one's own, which nothing binds."""

    settings: RedisSettings
    program: Program

    def directives(self, instance: str) -> dict[str, str]:
        """Return every setting as declared, whatever was changed."""
        ...

    def ended(self, instance: str, how: signal.Signals) -> AbstractContextManager[redis.Redis]:
        """End an instance by a signal, and yield a connection to one that starts from the files that it left."""
        ...

    def renewed(self) -> AbstractContextManager[World]:
        """Other servers with the same settings, and users and functions as declared."""
        ...


class World:
    """`first` are names of what to try before the rest, where a probe has a choice.

    `open_session` logs on over TLS; `throw_away` is there only where the servers may be spoilt. `ports` are where TLS
    is spoken on this machine, by instance; `passwords` are in clear, by user, and `secrets` are all of the vault.
    """

    errors: tuple[type[Exception], ...] = (redis.RedisError, DbkeepError)

    def __init__(
        self,
        declared: Declared,
        seed: Seed,
        open_session: Open,
        *,
        ports: dict[str, int],
        authority: Path,
        passwords: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
        throw_away: ThrowAway | None = None,
    ) -> None:
        self.declared, self.seed, self.ports, self.authority = declared, seed, ports, authority
        self.passwords = passwords
        self.secrets = dict(secrets or passwords)
        self._open, self._throw_away = open_session, throw_away
        self.first: frozenset[str] = frozenset()
        self._stack = ExitStack()
        self._sessions: dict[tuple[str, str], redis.Redis] = {}
        self._commands: dict[str, tuple[Command, ...]] = {}

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def describe(self, error: Exception) -> str:
        return " ".join(str(error).split())

    @property
    def is_copy(self) -> bool:
        return self._throw_away is not None

    @property
    def throw_away(self) -> ThrowAway:
        """What the world is a copy on. Raises ValueError where it is a live server."""
        if self._throw_away is None:
            raise ValueError("a live server is never touched as administrator")
        return self._throw_away

    @property
    def instances(self) -> list[str]:
        return list(self.declared.instances.instances)

    def users(self, instance: str) -> list[str]:
        """The users that `instance` is declared to have, but for the administrator; those to try `first` first."""
        names = [
            name for name in self.declared.acl.users if name != ADMIN and reach.grants_of(self.declared, name, instance)
        ]
        return sorted(names, key=lambda name: name not in self.first)

    def strangers(self, instance: str) -> list[str]:
        """The declared users that `instance` is declared not to have."""
        return [name for name in self.declared.acl.users if not reach.grants_of(self.declared, name, instance)]

    def connect(self, instance: str, user: str | None, **options: Any) -> redis.Redis:
        """Return a new connection that answers as the server does; `options` override the driver's keywords."""
        client = self._open(
            instance, user, **{"socket_timeout": ANSWER_SECONDS, "encoding_errors": "backslashreplace"} | options
        )
        client.response_callbacks.clear()
        self._stack.callback(client.close)
        return client

    def wire(self, instance: str, user: str | None) -> ssl.SSLSocket:
        """Return an encrypted connection without a driver, logged on as `user` when given; the caller closes it."""
        plain = socket.create_connection(("127.0.0.1", self.ports[instance]), ANSWER_SECONDS)
        wire = verifying(self.authority).wrap_socket(plain, server_hostname="localhost")
        if user is not None:
            wire.sendall(f"AUTH {user} {self.passwords[user]}\r\n".encode())
            wire.recv(len("+OK\r\n"))
        return wire

    def session(self, instance: str, user: str) -> redis.Redis:
        """Return the world's own connection as `user`, opened when first asked for."""
        if (instance, user) not in self._sessions:
            self._sessions[instance, user] = self.connect(instance, user)
        return self._sessions[instance, user]

    def admin(self, instance: str) -> redis.Redis:
        """Return a connection that nothing binds. Raises ValueError where the world is a live server."""
        if (instance, "") not in self._sessions:
            opened = connect(instance, self.throw_away.settings.instances[instance])
            self._sessions[instance, ""] = client = self._stack.enter_context(opened)
            client.response_callbacks.clear()
        return self._sessions[instance, ""]

    def auditor(self, instance: str) -> redis.Redis:
        """Return a connection that may ask about rights and settings: a declared user's where there is one.

        Raises DbkeepError where a live server has no such user.
        """
        if self.is_copy:
            return self.admin(instance)
        for user in self.users(instance):
            if all(reach.lists(self.declared, user, instance, name) for name in AUDITS):
                return self.session(instance, user)
        raise DbkeepError(
            f"no user of {instance} may read rights and settings: give {', '.join(AUDITS)} in redis/acl.yml"
        )

    def attempt(self, instance: str, user: str, *words: str) -> Attempt:
        """Try a command as `user`, on the world's own connection."""
        return attempt(self.session(instance, user), *words)

    def commands(self, instance: str) -> tuple[Command, ...]:
        """Return every command that the server of `instance` knows."""
        if instance not in self._commands:
            self._commands[instance] = commands.read(self.auditor(instance).execute_command, self.function)
        return self._commands[instance]

    def written(self, instance: str, user: str) -> list[str]:
        """Return the keys that a probe may have left where `user` may write."""
        grants = reach.grants_of(self.declared, user, instance)
        patterns = [pattern for grant in grants for pattern in (*grant.readwrite, *grant.write)]
        planted = self.seed.victims(self.declared, instance).values()
        own = [pattern.replace("*", f"{MARK}:own") for pattern in patterns]
        return [*own, *(key for key in planted if reach.matches(key, patterns))]

    @property
    def function(self) -> str:
        """The first declared function: what a trial of FCALL calls."""
        return next(iter(reach.functions(self.declared)), "none")

    def victims(self, instance: str) -> dict[str, str]:
        """Return the planted keys by prefix, after planting again those that are gone."""
        found = self.seed.victims(self.declared, instance)
        if self.is_copy:
            for key in found.values():
                self.admin(instance).execute_command("SET", key, self.seed.word, "EX", SECONDS)  # type: ignore[no-untyped-call]
        return found

    def version(self, instance: str) -> tuple[int, ...]:
        """Return the server's own version, such as (7, 0, 15): Valkey tells that of a Redis too."""
        said = str(self.auditor(instance).execute_command("INFO", "server"))  # type: ignore[no-untyped-call]
        found = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
        return tuple(map(int, found.get("valkey_version", found["redis_version"]).split(".")))

    def agreed_tls(self, instance: str, *, at_most: ssl.TLSVersion, ciphers: str = "ALL") -> str | None:
        """Return the TLS version that the server agrees to, None if to none."""
        return agreed_tls(self.ports[instance], self.authority, at_most=at_most, ciphers=ciphers)
