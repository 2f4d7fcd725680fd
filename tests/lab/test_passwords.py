"""New passwords for Redis on a real host: a killed rotation is finished, and no request is refused all along."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from dbkeep.checks.access import Access
from dbkeep.sample import open_api

from .conftest import UpLab, dbkeep, kill_at

USERS = ("svc_api", "svc_auth")


@contextmanager
def requests(lab: UpLab) -> Iterator[list[int]]:
    """Somebody reads the own profile all the time, which needs every instance of Redis; yields the statuses."""
    statuses: list[int] = []
    ending = threading.Event()
    name, password = f"p{secrets.token_hex(6)}", secrets.token_urlsafe(24)
    with open_api(lab.environment) as api:
        account = {"username": name, "email": f"{name}@example.org", "password": password}
        assert api.post("/auth/register", json=account).status_code == 201
        token = api.post("/auth/login", json={"login": name, "password": password}).json()["access_token"]

        def ask() -> None:
            while not ending.is_set():
                statuses.append(api.get("/profile", headers={"Authorization": f"Bearer {token}"}).status_code)
                time.sleep(0.02)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield statuses
        finally:
            ending.set()
            thread.join()


def let_in(lab: UpLab, user: str, password: str) -> bool:
    with Access(lab.environment) as access, access.redis(lab.host, "state", user, password=password) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def test_a_killed_rotation_is_finished_by_the_next_and_refuses_nobody(lab: UpLab) -> None:
    before = lab.environment.secrets["redis"]
    with requests(lab) as statuses:
        kill_at("give the new passwords to the services", "passwords", "rotate", "redis", *USERS, "-e", lab.name)
        waiting = dbkeep("passwords", "status", "redis", "-e", lab.name, "--json")
        assert waiting.status == 1, waiting.err
        assert {row["user"] for row in waiting.json["users"] if row["second"] == "previous"} == set(USERS)
        assert dbkeep("drift", "redis", "-e", lab.name).status == 0
        assert all(let_in(lab, user, before[user]) for user in USERS)

        done = dbkeep("passwords", "rotate", "redis", "-e", lab.name, "--json")
        assert done.status == 0, done.err
        assert (done.json["rotated"], done.json["resumed"]) == (sorted(USERS), True)
    assert set(statuses) == {200}
    after = lab.environment.secrets["redis"]
    assert after.keys() == before.keys()
    assert {user for user in after if after[user] != before[user]} == set(USERS)
    for user in USERS:
        assert let_in(lab, user, after[user])
        assert not let_in(lab, user, before[user])
    assert dbkeep("passwords", "status", "redis", "-e", lab.name).status == 0
    assert dbkeep("drift", "redis", "-e", lab.name).status == 0


@pytest.mark.parametrize("user", ["admin", "svc_oath"])
def test_what_cannot_be_rotated_is_refused(lab: UpLab, user: str) -> None:
    refused = dbkeep("passwords", "rotate", "redis", user, "-e", lab.name)
    assert refused.status == 2
    assert refused.err.count("\n") == 1
