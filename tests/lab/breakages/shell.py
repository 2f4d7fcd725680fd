"""One way to break a host by hand: what repairs it, and the controls that must notice."""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Breakage:
    """Shell commands of user ops. Without `repair` it is declared state, which `dbkeep apply` repairs."""

    controls: tuple[str, ...]
    command: str
    repair: str | None = None


def as_root(command: str) -> str:
    return f"sudo sh -c {shlex.quote(command)}"


def psql(statement: str) -> str:
    return f"sudo -u postgres psql -q -v ON_ERROR_STOP=1 -d chat -c {shlex.quote(statement)}"


def mongo(code: str) -> str:
    head = (
        "import json, pathlib, pymongo\n"
        "s = json.loads(pathlib.Path('/etc/dbkeep/agent.d/mongodb.json').read_text())\n"
        "client = pymongo.MongoClient(s['host'], s['port'], tls=True, tlsCAFile=s['ca_file'], directConnection=True,"
        " tlsCertificateKeyFile=s['certificate_key_file'], authMechanism='MONGODB-X509', authSource='$external')\n"
        "admin, chat = client.admin, client.chat\n"
    )
    return f"sudo /opt/dbkeep/venv/bin/python -c {shlex.quote(head + code)}"


def redis(instance: str, command: str, server: str = "redis") -> str:
    password = 'REDISCLI_AUTH="$(cat /etc/dbkeep/secrets/redis-admin)"'
    return as_root(f"{password} {server}-cli -e -s /run/{server}-{instance}/redis.sock --user admin {command}")
