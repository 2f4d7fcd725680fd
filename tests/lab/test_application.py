"""The application's promise on a real host: two users talk, a third user and a role without a user see nothing."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import httpx
import pytest

from dbkeep.checks.access import Access
from dbkeep.checks.attempts import act_for
from dbkeep.sample import open_api

from .conftest import UpLab


class Person:
    """A user who registered and logged in through the API."""

    def __init__(self, api: httpx.Client, name: str) -> None:
        self.api = api
        self.name = f"{name}-{secrets.token_hex(4)}"
        password = secrets.token_urlsafe(24)
        account = {"username": self.name, "email": f"{self.name}@example.org", "password": password}
        registered = api.post("/auth/register", json=account)
        assert registered.status_code == 201, registered.text
        self.id = registered.json()["id"]
        login = api.post("/auth/login", json={"login": self.name, "password": password})
        assert login.status_code == 200, login.text
        self.headers = {"Authorization": f"Bearer {login.json()['access_token']}"}

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return self.api.request(method, path, headers=self.headers, json=body)


@pytest.fixture(scope="module")
def story(lab: UpLab) -> Any:
    """Alice has written to Bob; Carol has an account."""
    with open_api(lab.environment) as api:
        alice, bob, carol = (Person(api, name) for name in ("alice", "bob", "carol"))
        made = alice.call("POST", "/conversations", {"type": "private", "participants": [bob.id]})
        assert made.status_code == 201, made.text
        conversation = made.json()["id"]
        path = f"/conversations/{conversation}/messages"
        sent = alice.call("PUT", f"{path}/{uuid.uuid4()}", {"content": "Meet me at noon."})
        assert sent.status_code == 201, sent.text
        yield {"alice": alice, "bob": bob, "carol": carol, "conversation": conversation, "path": path}


def test_the_other_user_reads_the_message_and_marks_it_read(story: dict[str, Any]) -> None:
    page = story["bob"].call("GET", story["path"])
    assert page.status_code == 200, page.text
    (message,) = page.json()["items"]
    assert (message["content"], message["sender_id"]) == ("Meet me at noon.", story["alice"].id)
    marked = story["bob"].call("POST", f"/conversations/{story['conversation']}/read", {"message_ids": [message["id"]]})
    assert marked.json() == {"marked": 1}
    (seen,) = story["alice"].call("GET", story["path"]).json()["items"]
    assert [receipt["user_id"] for receipt in seen["read_by"]] == [story["bob"].id]


def test_a_third_user_sees_nothing_of_it(story: dict[str, Any]) -> None:
    carol = story["carol"]
    assert carol.call("GET", story["path"]).status_code == 404
    assert carol.call("GET", "/conversations").json()["items"] == []
    assert carol.call("PUT", f"{story['path']}/{uuid.uuid4()}", {"content": "let me in"}).status_code == 404
    assert len(story["bob"].call("GET", story["path"]).json()["items"]) == 1


def test_the_database_role_with_no_user_set_sees_no_row(lab: UpLab, story: dict[str, Any]) -> None:
    environment = lab.environment
    host = environment.hosts("postgresql")[0]
    with Access(environment) as access, access.postgresql(host, "app_api") as connection:
        for table in ("profiles", "relationships", "settings"):
            assert connection.execute(f"SELECT count(*) FROM chat.{table}").fetchone() == (0,), table
        assert connection.execute("SELECT count(id) FROM chat.users").fetchone() == (0,)
        connection.rollback()
        act_for(connection, story["alice"].id)
        assert connection.execute("SELECT id::text FROM chat.users").fetchall() == [(story["alice"].id,)]


def test_no_address_stands_in_the_database_in_clear(lab: UpLab, story: dict[str, Any]) -> None:
    address = f"{story['alice'].name}@example.org"
    dump = lab.run("sudo -u postgres pg_dump --data-only --inserts chat")
    assert story["alice"].name in dump
    assert address not in dump


def test_the_api_answers_only_over_tls_that_the_authority_signed(lab: UpLab) -> None:
    host = lab.environment.hosts("chat_api")[0]
    port = lab.environment.variables["chat_api_port"]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{host.address}:{port}/health/live", trust_env=False)
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        httpx.get(f"https://{host.address}:{port}/health/live", trust_env=False)
    with open_api(lab.environment) as api:
        assert api.get("/health/ready").status_code == 200
