"""The application before a drill's copies: it runs, lets a user in, shows a conversation and takes a message.

It gets passwords and keys of the drill, never those of production: the keys of encrypted fields open every address that
the copy holds, and a host with all data is no place for them. So the drill does not prove that old fields can be
decrypted (`dbkeep keys status` counts what each key opens); a user's password is replaced on the copy to log in.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from dbkeep.backup.drill.copy import Copy
from dbkeep.backup.drill.proof import Proof
from dbkeep.errors import DbkeepError
from dbkeep.mongodb.connect import connect as mongodb
from dbkeep.ports import LOOPBACK, free_port
from dbkeep.postgresql.connect import connect as postgresql
from dbkeep.sandbox.authority import Authority
from dbkeep.secrets import new_password

READY_SECONDS = 60
ANSWER_SECONDS = 20
KEYS = ("token_key", "field_key", "blind_index_key")
MOST_CONVERSATIONS = 200


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the copy who can log in there now, and a conversation that the copy has of them, if any."""

    username: str
    password: str
    conversation: str | None = None
    messages: frozenset[str] = frozenset()


def use(copies: Mapping[str, Copy], folder: Path, authority: Authority, proof: Proof) -> None:
    """Start the application before the three copies and use it. Raises DbkeepError when it does not start or answer."""
    with serve(copies, folder, authority) as api:
        person = _someone(copies) or _registered(api)
        token = api.call("POST", "/auth/login", {"login": person.username, "password": person.password})
        api.token = str(token["access_token"])
        conversation = person.conversation
        if conversation is None:
            other = api.call("POST", "/auth/register", _registration())["id"]
            conversation = api.call("POST", "/conversations", {"type": "private", "participants": [other]})["id"]
        place = f"/conversations/{conversation}/messages"
        shown = {str(message["id"]) for message in api.call("GET", place)["items"]}
        what = "newest messages of a conversation as the API shows them"
        proof.equal(what, sorted(person.messages), sorted(shown))
        sent = api.call("PUT", f"{place}/{uuid.uuid4()}", {"content": "Sent in a drill."})
        again = {str(message["id"]) for message in api.call("GET", place)["items"]}
        proof.equal("a message sent is shown", True, str(sent["id"]) in again)


def _someone(copies: Mapping[str, Copy]) -> Person | None:
    """Return an active user who is in a conversation of the copy, with a password that is known now."""
    from argon2 import PasswordHasher  # noqa: PLC0415 - comes with the application, not with every agent

    settings = copies["mongodb"].settings
    with mongodb(settings) as client, postgresql(copies["postgresql"].settings) as connection:
        database = client[settings.database]
        newest = database["conversations"].find({"is_active": True}).sort("last_message_at", -1)
        for conversation in newest.limit(MOST_CONVERSATIONS):
            row = connection.execute(
                "SELECT id, username FROM chat.users WHERE is_active AND id::text = ANY(%s) LIMIT 1",
                [conversation["participants"]],
            ).fetchone()
            if row is None:
                continue
            password = new_password()
            hashed = PasswordHasher().hash(password)
            connection.execute("UPDATE chat.users SET password_hash = %s WHERE id = %s", [hashed, row[0]])
            found = database["messages"].find({"conversation_id": conversation["_id"]}, {"_id": 1})
            page = found.sort([("created_at", -1), ("_id", -1)]).limit(50)
            ids = frozenset(str(message["_id"]) for message in page)
            return Person(row[1], password, str(conversation["_id"]), ids)
    return None


def _registration() -> dict[str, str]:
    name = f"drill-{secrets.token_hex(6)}"
    return {"username": name, "email": f"{name}@example.org", "password": new_password()}


def _registered(api: Api) -> Person:
    body = _registration()
    api.call("POST", "/auth/register", body)
    return Person(body["username"], body["password"])


class Api:
    """The running application, over TLS with the drill's authority alone."""

    def __init__(self, port: int, authority: Path) -> None:
        self.token: str | None = None
        self.port, self._trust = port, ssl.create_default_context(cafile=str(authority))

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer. Raises DbkeepError with the API's own words when it refuses or does not answer."""
        try:
            status, text = self.ask(method, path, body)
        except (OSError, HTTPException) as error:
            raise DbkeepError(f"the API before the copies: {method} {path}: no answer: {error}") from None
        if not 200 <= status < 300:
            raise DbkeepError(f"the API before the copies answered {method} {path} with {status}: {text[:200]}")
        return dict(json.loads(text)) if text else {}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """Return status and text of the answer. Raises OSError or HTTPException without one."""
        headers = {"Content-Type": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        connection = HTTPSConnection("localhost", self.port, timeout=ANSWER_SECONDS, context=self._trust)
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@contextmanager
def serve(copies: Mapping[str, Copy], folder: Path, authority: Authority) -> Iterator[Api]:
    """Run the application before the copies until the block ends. Raises DbkeepError when it is not ready in time."""
    credentials = folder / "credentials"
    _write_credentials(credentials, copies, authority)
    port, log = free_port(), folder / "chat_api.log"
    ports = {name: number for copy in copies.values() for name, number in copy.ports.items()}
    environment = {
        "PATH": "/usr/bin:/bin",
        "CREDENTIALS_DIRECTORY": str(credentials),
        "CHAT_API_LISTEN_ADDRESS": LOOPBACK,
        "CHAT_API_LISTEN_PORT": str(port),
        "CHAT_API_CA_FILE": str(authority.file),
        "CHAT_API_POSTGRESQL_HOSTS": f"localhost:{ports['postgresql']}",
        "CHAT_API_POSTGRESQL_DATABASE": copies["postgresql"].settings.database,
        "CHAT_API_MONGODB_HOSTS": f"{LOOPBACK}:{ports['mongodb']}",
        "CHAT_API_MONGODB_DATABASE": copies["mongodb"].settings.database,
        "CHAT_API_MONGODB_REPLICA_SET": copies["mongodb"].settings.replica_set,
        "CHAT_API_REDIS_STATE": f"localhost:{ports['redis_state']}",
        "CHAT_API_REDIS_CACHE": f"localhost:{ports['redis_cache']}",
    }
    command = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "chat_api"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        api = Api(port, authority.file)
        _wait_until_ready(api, process, log)
        yield api
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(api: Api, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    said = "no answer"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status, said = api.ask("GET", "/health/ready")
        except (OSError, HTTPException) as error:
            said = str(error)
        else:
            if status == 200:
                return
        time.sleep(0.1)
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise DbkeepError(f"the API is not ready before the copies: {said[:200]}; its log ends with: {words[-1:]}")


def _write_credentials(folder: Path, copies: Mapping[str, Copy], authority: Authority) -> None:
    folder.mkdir(mode=0o700)
    certificate, key, _ = authority.issue("chat_api")
    certificate.rename(folder / "tls_certificate")
    key.rename(folder / "tls_key")
    values = {
        f"{engine}_{user}": password
        for engine, copy in copies.items()
        for user, password in copy.serving.passwords.items()
    }
    values["context_key"] = copies["postgresql"].serving.context_key
    values |= {name: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode() for name in KEYS}
    for name, value in values.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(value, encoding="ascii")
