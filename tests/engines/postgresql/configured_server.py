"""A running server whose configuration files are a test's to break."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from dbkeep import postgresql
from dbkeep.plan import Change
from dbkeep.postgresql import Declared
from dbkeep.settings import PostgreSQLServer, PostgreSQLSettings
from dbkeep.tls import Subject, new_authority, new_private_key, new_request, sign

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Server:
    """A running server whose files are ours to break."""

    settings: PostgreSQLSettings
    declared: Declared
    secrets: dict[str, str]

    @property
    def file(self) -> Path:
        assert self.settings.server
        return self.settings.server.configuration_file

    def with_settings(self, **changed: Any) -> Server:
        """The same server, whose environment has other postgresql_settings."""
        assert self.settings.server
        server = self.settings.server.model_copy(update={"settings": {**self.settings.server.settings, **changed}})
        return Server(self.settings.model_copy(update={"server": server}), self.declared, self.secrets)

    def plan(self) -> list[Change]:
        return list(postgresql.plan(self.settings, self.declared, self.secrets))

    def named(self) -> set[tuple[str, str]]:
        return {(change.kind, Path(change.target).name) for change in self.plan()}

    def apply(self) -> tuple[Change, ...]:
        return postgresql.apply(self.settings, self.declared, self.secrets)

    def execute(self, *statements: str) -> Any:
        with psycopg.connect(
            host=str(self.settings.socket_directory), port=self.settings.port, user="postgres", dbname="postgres",
            autocommit=True,
        ) as session:  # fmt: skip
            for statement in statements:
                cursor = session.execute(statement.encode())
            return cursor.fetchone() if cursor.description else None

    def alter_system(self, name: str, value: str) -> None:
        """ALTER SYSTEM, or where the server forbids it what somebody writes into its file."""
        if self.execute("SELECT current_setting('allow_alter_system', true)") == ("off",):
            (folder,) = self.execute("SHOW data_directory")
            automatic = Path(folder, "postgresql.auto.conf")
            write(automatic, f"{automatic.read_text(encoding='utf-8')}{name} = '{value}'\n")
        else:
            self.execute(f"ALTER SYSTEM SET {name} = '{value}'")

    def reload(self) -> None:
        self.execute("SELECT pg_reload_conf()", "SELECT pg_sleep(0.2)")


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    give(path)


def give(path: Path) -> None:
    """Make the server's user the owner, as the role does."""
    path.chmod(0o700 if path.is_dir() else 0o600)
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(path, user.pw_uid, user.pw_gid)


def issue(folder: Path) -> None:
    authority, key = new_private_key(), new_private_key()
    certificate = new_authority(authority, "test")
    signed = sign(
        new_request(key, "localhost"),
        Subject("localhost", ("localhost",)),
        private_key=authority,
        authority=certificate,
    )
    for name, text in (("ca.crt", certificate), ("server.crt", signed), ("server.key", key)):
        (folder / name).write_text(text, encoding="utf-8")
        give(folder / name)


def configuration(folder: Path) -> PostgreSQLServer:
    """What the role knows of a server on its host, whose files lie in a folder of the test."""
    folder.mkdir()
    give(folder)
    issue(folder)
    return PostgreSQLServer(
        configuration_file=folder / "60-dbkeep.conf",
        settings={
            "ssl_ca_file": f"{folder}/ca.crt", "ssl_cert_file": f"{folder}/server.crt",
            "ssl_key_file": f"{folder}/server.key",
            # Debian has pgaudit in a package of its own, which this machine need not have.
            "shared_preload_libraries": "pg_stat_statements",
        },
        memory_bytes=256 * MEBIBYTE, processors=2,
    )  # fmt: skip
