"""Connections to the databases as the real roles, with their passwords from the vault, over verified TLS.

They come from the application's host by an SSH tunnel, so that host-based rules and firewalls treat them as the
application. Server certificates name localhost, which is where the tunnel ends.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
import warnings
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import redis
from pymongo import MongoClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from chat_api.context import Signer
from dbkeep.checks.attempts import Session
from dbkeep.checks.tunnel import Target, forward
from dbkeep.environment import Environment, Host
from dbkeep.errors import UsageError
from dbkeep.postgresql.context_keys import ENTRY, keys

TIMEOUT_SECONDS = 5
OPERATORS = "chat_"
"""How the names of PostgreSQL roles begin that are used on the database host."""
INSTANCES = ("state", "cache")
POSTGRESQL_TLS_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(
    4, "big"
)  # manual 55.2.10 "SSL Session Encryption"
PORT_VARIABLES = {
    "postgresql": ("postgresql_port",),
    "mongodb": ("mongodb_port",),
    "redis": ("redis_state_port", "redis_cache_port"),
}


class Access:
    """Opens connections while its block runs. Every method takes the database host; each raises the driver's errors."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._stack = ExitStack()
        self._tunnels: dict[str, dict[Target, int]] = {}
        self.authority = Path()

    def __enter__(self) -> Access:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dbkeep-check-"))
        self.authority = Path(folder) / "ca.crt"
        self.authority.write_text(self._environment.variables["dbkeep_ca_certificate"], encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def local_port(self, host: Host, variable: str, *, through: Host | None = None) -> int:
        """Return the local port that leads to the port of `host` that the variable names.

        The way is through the first host of chat_api, or the one named. Raises UsageError when SSH refuses it.
        """
        application = self._application_host()
        way = through or application
        if way.name not in self._tunnels:
            targets = self._targets() if way == application else self._targets_of(host)
            self._tunnels[way.name] = self._stack.enter_context(forward(way, targets))
        return self._tunnels[way.name][host.address, int(self._environment.variables[variable])]

    def _application_host(self) -> Host:
        hosts = self._environment.hosts("chat_api")
        if not hosts:
            name = self._environment.name
            raise UsageError(f"environment {name} has no host in group chat_api to reach the databases from")
        return hosts[0]

    def _targets(self) -> list[Target]:
        hosts = [host for host in self._environment.all_hosts if host.groups.intersection(PORT_VARIABLES)]
        return [target for host in hosts for target in self._targets_of(host)]

    def _targets_of(self, host: Host) -> list[Target]:
        variables = [name for engine, names in PORT_VARIABLES.items() if engine in host.groups for name in names]
        return [(host.address, int(self._environment.variables[name])) for name in variables]

    def postgresql(self, host: Host, role: str, *, server_name: str = "localhost", **options: Any) -> Session:
        """Return a connection as `role`; `options` override libpq's keywords (sslmode, password, dbname, ...)."""
        keywords = self.postgresql_keywords(host, role) | {"host": server_name}
        # PG* variables of the person's shell must not stand in for what is left out on purpose.
        environment = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("PG")}
        try:
            session = Session.connect(
                **{key: value for key, value in (keywords | options).items() if value is not None}
            )
        finally:
            os.environ.update(environment)
        if secret := self._environment.secrets["postgresql"].get(ENTRY):
            session.signer = Signer(keys(secret))
        return session

    def postgresql_keywords(self, host: Host, role: str) -> dict[str, Any]:
        """Return libpq's keywords for a connection as `role` by the tunnel; they hold its password.

        Roles that do not serve the application are let in from the database host only, so that is where they come from.
        """
        through = host if role.startswith(OPERATORS) else None
        return {
            "host": "localhost",
            "hostaddr": "127.0.0.1",
            "port": self.local_port(host, "postgresql_port", through=through),
            "user": role,
            "password": self._environment.secrets["postgresql"].get(role),
            "dbname": "chat",
            "sslmode": "verify-full",
            "sslrootcert": str(self.authority),
            "connect_timeout": TIMEOUT_SECONDS,
            "application_name": "dbkeep check",
        }

    def mongodb(self, host: Host, user: str | None, **options: Any) -> MongoClient[dict[str, Any]]:
        """Return a client as `user`, or not logged on without one; `options` override MongoClient's keywords."""
        keywords: dict[str, Any] = {
            "host": "localhost",
            "port": self.local_port(host, "mongodb_port"),
            "directConnection": True,
            "tls": True,
            "tlsCAFile": str(self.authority),
            "serverSelectionTimeoutMS": TIMEOUT_SECONDS * 1000,
            "appname": "dbkeep check",
        }
        if user is not None:
            keywords |= {
                "username": user,
                "password": self._environment.secrets["mongodb"][user],
                "authSource": "admin",
            }
            keywords |= {"authMechanism": "SCRAM-SHA-256"}
        return MongoClient(**(keywords | options))

    def redis(self, host: Host, instance: str, user: str | None, *, plain: bool = False, **options: Any) -> redis.Redis:
        """Return a client of one instance as `user`, or not logged on without one; `plain` leaves TLS out."""
        password = None if user is None else self._environment.secrets["redis"][user]
        port = self.local_port(host, f"redis_{instance}_port")
        return redis_client(port, self.authority, user, password, plain=plain, **options)

    def tls_version(
        self, host: Host, variable: str, *, at_most: ssl.TLSVersion, ciphers: str = "ALL", request: bytes = b""
    ) -> str | None:
        """Return the TLS version that a server agrees to, None if to none.

        `ciphers` are all that the client offers up to TLS 1.2. `request` is what the server's protocol wants before the
        handshake and answers with one byte.
        """
        port = self.local_port(host, variable)
        return agreed_tls(port, self.authority, at_most=at_most, ciphers=ciphers, request=request)


def redis_client(
    port: int, authority: Path, user: str | None, password: str | None, /, *, plain: bool = False, **options: Any
) -> redis.Redis:
    """Return a client of the instance on a local port as `user`, or not logged on; `plain` leaves TLS out.

    `options` override the driver's keywords, `username` and `password` among them.
    """
    keywords: dict[str, Any] = {
        "host": "localhost",
        "port": port,
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "decode_responses": True,
        "protocol": 2,  # the third begins with HELLO, whose refusal would hide the answer to the command
        "retry": Retry(NoBackoff(), 0),
    }
    if not plain:
        keywords |= {"connection_class": _Encrypted, "context": verifying(authority)}
    if user is None:
        keywords |= {"driver_info": None}  # the driver says its name first, whose refusal would hide the answer too
    else:
        keywords |= {"username": user, "password": password}
    return redis.Redis.from_pool(redis.ConnectionPool(**(keywords | options)))


def verifying(authority: Path) -> ssl.SSLContext:
    """Return a context that trusts `authority` alone and verifies names."""
    return _verifying(authority.read_text(encoding="ascii"))


@cache
def _verifying(authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    return context


class _Encrypted(redis.SSLConnection):
    """Connections that share a context: the driver would read all authorities of the system for each."""

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._context = context

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._context.wrap_socket(sock, server_hostname=self.host)


def agreed_tls(
    port: int, authority: Path, *, at_most: ssl.TLSVersion, ciphers: str = "ALL", request: bytes = b""
) -> str | None:
    """Return the TLS version that the server on a local port agrees to, None if to none; see Access.tls_version."""
    context = ssl.create_default_context(cafile=str(authority))
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")  # what OpenSSL needs to offer TLS 1.1 at all
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are offered to see them refused
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = at_most
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as plain:
        if request:
            plain.sendall(request)
            plain.recv(1)
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return wrapped.version()
        except (ssl.SSLError, ConnectionError):
            return None
