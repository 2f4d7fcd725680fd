"""Sample data for a lab: a few users, two conversations, some messages, all through the API as an application would."""

from __future__ import annotations

import json
import secrets
import ssl
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dbkeep.environment import Environment
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.files import write_atomically

NAMES = ("ada", "grace", "edsger", "barbara", "tony")
GROUP = "Reading group"
NAMESPACE = uuid.UUID("6f0c3f8e-6a7e-5d2b-9d3c-0a3c1f4e9b10")
CONVERSATIONS = 2
LINES = 10
READY_SECONDS = 30
LIMIT_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Sample:
    users: int
    conversations: int
    messages: int


def open_api(environment: Environment) -> httpx.Client:
    """Return a client of the environment's API that trusts only the environment's own authority.

    Raises UsageError when the environment has no API host or no authority.
    """
    hosts = environment.hosts("chat_api")
    if not hosts:
        raise UsageError(f"environment {environment.name} has no host in group chat_api")
    authority = environment.variables.get("dbkeep_ca_certificate")
    if not authority:
        raise UsageError(f"environment {environment.name} has no dbkeep_ca_certificate; run ./dbkeep init")
    context = ssl.create_default_context(cadata=authority)
    url = f"https://{hosts[0].address}:{environment.variables['chat_api_port']}"
    return httpx.Client(base_url=url, verify=context, timeout=20, trust_env=False)


def load_sample(environment: Environment) -> Sample:
    """Load what is missing of the sample data and return what there is; twice is the same as once.

    The passwords are made here and kept in the environment's .sample-users.json (0600), so that a person can log in.
    Raises DbkeepError with the API's own words when it refuses something.
    """
    people = sample_users(environment.path / ".sample-users.json")
    with open_api(environment) as api:
        _wait_until_ready(api)
        there = _present(api, people)
        if there:
            return there
        tokens = {name: _log_in(api, name, person) for name, person in people.items()}
        ids = {name: _call(api, "GET", f"/users/{name}", tokens[NAMES[0]])["id"] for name in NAMES[1:]}
        conversations = [
            _conversation(api, tokens[NAMES[0]], {"type": "private", "participants": [ids[NAMES[1]]]}),
            _conversation(api, tokens[NAMES[0]], {"type": "group", "participants": list(ids.values()), "name": GROUP}),
        ]
        messages = 0
        for number, conversation in enumerate(conversations):
            for line in range(LINES):
                sender = NAMES[line % (2 if number == 0 else len(NAMES))]
                _send(api, tokens[sender], conversation, f"Line {line + 1} from {sender}.")
                messages += 1
    return Sample(len(people), len(conversations), messages)


def _present(api: httpx.Client, people: dict[str, dict[str, str]]) -> Sample | None:
    """Return the sample data if all of it is there, by one login: logins are limited per account."""
    login = _post_login(api, NAMES[0], people[NAMES[0]])
    if not login.is_success:
        return None
    token = str(login.json()["access_token"])
    own = [c["id"] for c in _call(api, "GET", "/conversations", token)["items"]]
    pages = [_call(api, "GET", f"/conversations/{conversation}/messages", token)["items"] for conversation in own]
    if len(own) < CONVERSATIONS or any(len(page) < LINES for page in pages):
        return None
    return Sample(len(people), len(own), sum(len(page) for page in pages))


def sample_users(path: Path) -> dict[str, dict[str, str]]:
    """Return name, address and password of every sample user, made once and kept in the file `path`."""
    if not path.is_file():
        people = {
            name: {"username": name, "email": f"{name}@example.org", "password": secrets.token_urlsafe(24)}
            for name in NAMES
        }
        write_atomically(path, json.dumps(people, indent=2), mode=0o600)
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _wait_until_ready(api: httpx.Client) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            answer = api.get("/health/ready")
        except httpx.HTTPError as error:
            said = str(error)
        else:
            if answer.is_success:
                return
            said = answer.text
        if time.monotonic() > deadline:
            raise DbkeepError(f"the API at {api.base_url} is not ready: {said}")
        time.sleep(0.5)


def _log_in(api: httpx.Client, name: str, person: dict[str, str]) -> str:
    """Return an access token, registering the user first if there is none of that name."""
    answer = _post_login(api, name, person)
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        _expect(api.post("/auth/register", json=person))
        answer = _post_login(api, name, person)
    return str(_expect(answer)["access_token"])


def _post_login(api: httpx.Client, name: str, person: dict[str, str]) -> httpx.Response:
    """Log in; when the account's limit is reached, wait once as long as the API says (RFC 9110, Retry-After)."""
    login = {"login": name, "password": person["password"]}
    answer = api.post("/auth/login", json=login)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        time.sleep(min(int(answer.headers.get("Retry-After", "1")) + 1, LIMIT_SECONDS))
        answer = api.post("/auth/login", json=login)
    return answer


def _conversation(api: httpx.Client, token: str, wanted: dict[str, Any]) -> str:
    """Return the id of the conversation with exactly that type, name and participants, made if there is none."""
    others = set(wanted["participants"])
    for item in _call(api, "GET", "/conversations", token)["items"]:
        same = item["type"] == wanted["type"] and item["name"] == wanted.get("name")
        if same and others < set(item["participants"]):
            return str(item["id"])
    return str(_call(api, "POST", "/conversations", token, wanted)["id"])


def _send(api: httpx.Client, token: str, conversation: str, content: str) -> None:
    client_id = uuid.uuid5(NAMESPACE, f"{conversation}/{content}")
    _call(api, "PUT", f"/conversations/{conversation}/messages/{client_id}", token, {"content": content})


def _call(api: httpx.Client, method: str, path: str, token: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    return _expect(api.request(method, path, headers={"Authorization": f"Bearer {token}"}, json=body))


def _expect(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        request = answer.request
        raise DbkeepError(
            f"the API answered {request.method} {request.url.path} with {answer.status_code}: {answer.text}"
        )
    return dict(answer.json())
