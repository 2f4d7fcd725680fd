"""What the API does when a store stops, and that it recovers when the store is back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PASSWORD = "correct horse battery staple"
NewUser = Callable[..., Any]


@contextmanager
def stopped(servers: Any, service: Any, name: str) -> Iterator[None]:
    servers.stop(name)
    try:
        yield
    finally:
        servers.start(name)
        deadline = time.monotonic() + 30
        while not service.client.get("/health/ready").is_success:
            assert time.monotonic() < deadline, "the API does not find the store again"
            time.sleep(0.2)


def test_api_is_live_and_ready(service: Any) -> None:
    assert service.client.get("/health/live").json() == {"status": "live"}
    answer = service.client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["failing"] == []


@pytest.mark.parametrize("name", ["postgresql", "mongodb", "redis_state", "redis_cache"])
def test_stopped_store_is_named_and_its_requests_fail_fast(
    name: str, service: Any, servers: Any, new_user: NewUser
) -> None:
    user = new_user()
    uses = {
        "postgresql": lambda: user.api.patch("/profile", json={"bio": "new"}),
        "mongodb": lambda: user.api.get("/conversations"),
        "redis_state": lambda: service.client.post("/auth/login", json={"login": user.username, "password": PASSWORD}),
        "redis_cache": lambda: user.api.get("/profile"),
    }
    with stopped(servers, service, name):
        ready = service.client.get("/health/ready")
        assert (ready.status_code, ready.json()["failing"]) == (503, [name])
        assert service.client.get("/health/live").status_code == 200
        started = time.monotonic()
        answer = uses[name]()
        assert time.monotonic() - started < 6
        # The cache fails open, the login limit fails closed.
        assert answer.status_code == (200 if name == "redis_cache" else 503), answer.text
        if name != "redis_cache":
            assert answer.headers["content-type"] == "application/problem+json"
            assert "retry-after" in answer.headers


def test_a_password_that_a_store_refuses_is_a_503(service: Any, servers: Any, new_user: NewUser) -> None:
    user = new_user()
    passwords = servers.passwords["mongodb"]
    right = passwords["chat_api"]
    servers.stop("mongodb")
    passwords["chat_api"] = secrets.token_urlsafe(32)
    servers.start("mongodb")
    try:
        answer = user.api.get("/conversations")
    finally:
        with stopped(servers, service, "mongodb"):
            passwords["chat_api"] = right
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_the_log_holds_no_secret(service: Any, new_user: NewUser, credentials: Any) -> None:
    user = new_user()
    user.api.get("/conversations", params={"before": "A" * 27})
    log = service.log.read_text(encoding="utf-8")
    assert "POST /auth/login 200" in log
    kept = [PASSWORD, user.email, user.refresh_token, user.api.headers["authorization"], "before="]
    kept += [path.read_text(encoding="ascii") for path in credentials.iterdir()]
    assert [secret for secret in kept if secret in log] == []
