"""An address that went through the API stands in no file of the servers, logs and backups, however much they log."""

from __future__ import annotations

import base64
import os
import pwd
import secrets
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest

from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.redis.connect import connect as redis
from dbkeep.sandbox.authority import Authority

from ..canary import files_with, spellings
from .conftest import ENGINES, PASSWORD, Servers, wait_until_ready, write_credentials

TALKATIVE = {
    "log_statement": "all",
    "wal_keep_size": "1GB",  # else a checkpoint may take away the WAL that is to be searched
    "log_min_duration_statement": "0",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_error_verbosity": "verbose",
    "log_connections": "on",
    "debug_print_parse": "on",
    "debug_print_plan": "on",
    "wal_level": "logical",
}


@dataclass
class Site:
    folder: Path
    servers: Servers
    client: httpx.Client
    pgbackrest: PgBackRest

    def superuser(self) -> psycopg.Connection[Any]:
        settings = self.servers.postgresql
        assert settings is not None
        return psycopg.connect(
            host=str(settings.socket_directory), port=settings.port, user="postgres", dbname="chat", autocommit=True
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # Nobody else's files lie in it: all of it is searched.
    with tempfile.TemporaryDirectory(prefix="dbkeep-canary-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        servers = Servers(folder, Authority(folder))
        pgbackrest = configure_pgbackrest(folder, servers)
        archive = f"pgbackrest --config={pgbackrest.configuration} --stanza=chat archive-push %p"
        servers.postgresql_tls |= {**TALKATIVE, "archive_mode": "on", "archive_command": archive}
        try:
            for engine in ENGINES:
                servers.start(engine)
            pgbackrest.run("stanza-create")
            environment = servers.api_environment(write_credentials(servers))
            log = folder / "chat_api.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "chat_api"], env=environment, stdout=output, stderr=output
                )
            try:
                trust = ssl.create_default_context(cafile=str(servers.authority.file))
                url = f"https://localhost:{environment['CHAT_API_LISTEN_PORT']}"
                with httpx.Client(base_url=url, verify=trust, timeout=30, trust_env=False) as client:
                    wait_until_ready(client, process, log)
                    yield Site(folder, servers, client, pgbackrest)
            finally:
                process.terminate()
                process.wait(30)
        finally:
            servers.stop_all()


def configure_pgbackrest(folder: Path, servers: Servers) -> PgBackRest:
    user = pwd.getpwnam("postgres")
    for name in ("repository", "restored", "backup-log", "backup-lock"):
        (folder / name).mkdir(mode=0o750)
        os.chown(folder / name, user.pw_uid, user.pw_gid)
    configuration = folder / "pgbackrest.conf"
    configuration.write_text(
        f"""[global]
repo1-path={folder}/repository
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={secrets.token_urlsafe(32)}
repo1-bundle=y
repo1-retention-full=2
log-path={folder}/backup-log
lock-path={folder}/backup-lock
compress-type=zst
start-fast=y
[chat]
pg1-path={folder}/postgresql/data
pg1-socket-path={folder}/postgresql/socket
pg1-port={servers.ports["postgresql"]}
""",
        encoding="utf-8",
    )
    os.chown(configuration, user.pw_uid, user.pw_gid)
    configuration.chmod(0o600)
    return PgBackRest("chat", configuration, "postgres")


def use(site: Site, address: str) -> dict[str, str]:
    """Register and log in with the address, and make everything fail with it that can; returns the user's headers."""
    post = site.client.post
    name = f"u{uuid4().hex[:12]}"
    body = {"username": name, "email": address, "password": PASSWORD}
    statuses = [post("/auth/register", json=body).status_code]
    tokens = post("/auth/login", json={"login": address, "password": PASSWORD})
    headers = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    wrong = {"login": address, "password": "not the password"}
    statuses += [post("/auth/login", json=login).status_code for login in (wrong, {**wrong, "login": address.upper()})]
    for change in (
        {"username": f"v{name}"},
        {"username": f"v{name}", "email": address.upper()},
        {"email": f"{uuid4().hex}.{address}"},
        {"username": address},
        {"email": f"{address}{'x' * 300}"},
        {"email": f"{address}\x00"},
        {"username": f"p{name}", "email": f"p.{address}", "password": address},
    ):
        statuses.append(post("/auth/register", json={**body, **change}).status_code)
    statuses.append(post("/auth/register", content=f'{{"email": "{address}", '.encode()).status_code)
    get = site.client.get
    statuses += [get(f"/users/{quote(address)}", headers=headers).status_code, get(f"/{address}").status_code]
    statuses.append(get("/profile", params={"email": address}, headers=headers).status_code)
    with site.superuser() as connection, connection.transaction():
        # Statements of the API fail at the server, with their parameters.
        connection.execute("LOCK TABLE chat.users IN ACCESS EXCLUSIVE MODE")
        statuses.append(post("/auth/login", json={"login": address, "password": PASSWORD}).status_code)
        other = {"username": f"w{name}", "email": f"w.{address}", "password": PASSWORD}
        statuses.append(post("/auth/register", json=other).status_code)
    assert statuses == [201, 401, 401, 409, 409, 409, 422, 422, 422, 201, 422, 422, 404, 200, 503, 503], statuses
    return headers


def write_in_clear(site: Site, text: str, headers: dict[str, str]) -> None:
    """Put the text into each engine as something that is not secret."""
    assert site.client.patch("/profile", json={"bio": text}, headers=headers).status_code == 200
    with site.superuser() as connection:
        connection.execute("SELECT set_config('application_name', %s, false)", (text,))
    assert site.servers.mongodb is not None
    with mongodb(site.servers.mongodb) as client:
        client["chat"]["migrations"].insert_one({"note": text})
    for name in ("redis_state", "redis_cache"):
        instance = name.removeprefix("redis_")
        with redis(instance, site.servers.instances[name].instances[instance]) as client:
            client.set("canary", text, ex=600)


def settle(site: Site) -> None:
    """Bring everything to disk, back PostgreSQL up, and restore the backup, decrypted and decompressed."""
    with site.superuser() as connection:
        connection.execute("CHECKPOINT")
        connection.execute("SELECT pg_switch_wal()")
    assert site.servers.mongodb is not None
    with mongodb(site.servers.mongodb) as client:
        client.admin.command("fsync")
    site.pgbackrest.run("backup", "--type=full")
    site.pgbackrest.run("restore", f"--pg1-path={site.folder}/restored")


def test_an_address_is_in_no_file_and_the_search_would_have_found_it(site: Site) -> None:
    needle = f"Canary.{secrets.token_hex(12)}"
    control = f"control-{secrets.token_hex(12)}"
    headers = use(site, f"{needle}@leak.example")
    write_in_clear(site, control, headers)
    settle(site)
    assert files_with(needle, [site.folder]) == []
    found = {str(path.relative_to(site.folder)) for path in files_with(control, [site.folder])}
    for place in (
        "postgresql/data/base/",
        "postgresql/data/pg_wal/",
        "postgresql/postgresql.log",
        "restored/base/",
        "mongodb/",
        "redis/state/",
    ):
        assert any(path.startswith(place) for path in found), f"{place}: {sorted(found)}"
    # Where nothing can be written in clear through the API, the search finds what is there.
    log = site.folder / "chat_api.log"
    assert files_with("POST /auth/register 409", [log]) == [log]
    assert "parameters: $1" in (site.folder / "postgresql/postgresql.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("number", range(4))
def test_every_spelling_is_found_wherever_it_stands(tmp_path: Path, number: int) -> None:
    text, before = "Canary.0a1b2c@leak.example", os.urandom(500 + number)
    file = tmp_path / "file"
    for written in (
        text.encode(),
        text.upper().encode("utf-16-be"),
        text.encode().hex().encode(),
        base64.b64encode(before + text.casefold().encode() + before),
        base64.urlsafe_b64encode(before + text.encode() + before),
    ):
        file.write_bytes(before + written + before)
        assert files_with(text, [tmp_path]) == [file]
    file.write_bytes(before + text[:-1].encode() + b"-" + base64.b64encode(before))
    assert files_with(text, [tmp_path]) == []
    assert len(spellings(text)) > 10
