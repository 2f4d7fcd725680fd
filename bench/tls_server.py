"""A throw-away PostgreSQL as declared, to be reached as the API reaches it: by TCP and over TLS."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbkeep import postgresql, tls
from dbkeep.ports import free_port
from dbkeep.postgresql import Declared, context_keys
from dbkeep.postgresql.models import Context
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import new_password
from dbkeep.settings import PostgreSQLSettings

ROOT = Path(__file__).parents[1]
ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """`settings` reaches the superuser by the socket; the roles log on to ADDRESS with their passwords."""

    settings: PostgreSQLSettings
    declared: Declared
    passwords: dict[str, str]
    context_key: str
    ca_file: Path

    def login(self, role: str) -> dict[str, Any]:
        """Return what psycopg connects with as `role`, over TLS."""
        return {
            "host": ADDRESS, "port": self.settings.port, "dbname": self.declared.scope.database, "user": role,
            "password": self.passwords[role], "sslmode": "verify-full", "sslrootcert": str(self.ca_file),
        }  # fmt: skip


@contextmanager
def start(folder: Path, *, context: Context, options: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start it in `folder`, which its own user must be able to enter, and stop it at the end."""
    declared = postgresql.read_declared(ROOT, context=context)
    passwords = {role: new_password() for role in postgresql.users(declared)}
    context_key = new_password()
    ca_file = folder / "ca.crt"
    with sandbox.start(
        folder / "server", port=free_port(ADDRESS), listen_addresses=ADDRESS,
        options={**_certificate(folder, ca_file), **(options or {})},
    ) as settings:  # fmt: skip
        postgresql.apply(settings, declared, {**passwords, context_keys.ENTRY: context_key})
        yield Server(settings, declared, passwords, context_key, ca_file)


def _certificate(folder: Path, ca_file: Path) -> dict[str, str]:
    """Make an authority and the server's certificate; return the settings that use it."""
    authority_key = tls.new_private_key()
    authority = tls.new_authority(authority_key, "bench")
    ca_file.write_text(authority, encoding="ascii")
    key = tls.new_private_key()
    subject = tls.Subject("postgresql", names=(ADDRESS,))
    signed = tls.sign(tls.new_request(key, "postgresql"), subject, private_key=authority_key, authority=authority)
    _give(folder / "server.crt", signed)
    _give(folder / "server.key", key)
    return {"ssl": "on", "ssl_cert_file": str(folder / "server.crt"), "ssl_key_file": str(folder / "server.key")}


def _give(path: Path, text: str) -> None:
    """A file that only the server's user can read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")
    with suppress(KeyError, PermissionError):
        shutil.chown(path, pwd.getpwnam("postgres").pw_name)
