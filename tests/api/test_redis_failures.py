"""Redis stopped and killed under load: every use fails as it is declared, in time, and comes back by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import redis

from chat_api.configuration import Configuration
from dbkeep.environment import checkout
from dbkeep.redis import read_declared
from dbkeep.redis.connect import connect
from dbkeep.settings import RedisInstance

from .conftest import PASSWORD

NewUser = Callable[..., Any]

TIMEOUT = Configuration.model_fields["redis_timeout_seconds"].default
# For what is not Redis: the machine, the other stores, the hash of a password.
ELSEWHERE = 10.0
CALLERS = 6


@dataclass(frozen=True)
class Request:
    """A request, what it is answered without the instance, and how many of its uses may each wait for a time-out."""

    send: Callable[[Any, httpx.Client], httpx.Response]
    status: int
    waits: int


STATE = {
    # Closed: who you are, whether you may try a password, whether you were heard of.
    "read the profile": Request(lambda user, _: user.api.get("/profile"), 503, 1),
    "announce presence": Request(lambda user, _: user.api.put("/presence"), 503, 1),
    "log in": Request(
        lambda user, api: api.post("/auth/login", json={"login": user.username, "password": PASSWORD}), 503, 1
    ),
    "refresh": Request(lambda _, api: api.post("/auth/refresh", json={"refresh_token": "x" * 43}), 503, 1),
    "register": Request(lambda _, api: api.post("/auth/register", json=account()), 503, 1),
    "be live": Request(lambda _, api: api.get("/health/live"), 200, 0),
}
CACHE = {
    # Open: the profile is read from PostgreSQL, asked for twice and put once.
    "read the profile": Request(lambda user, _: user.api.get("/profile"), 200, 2),
    "change the profile": Request(lambda user, _: user.api.patch("/profile", json={"bio": "new"}), 200, 1),
    "announce presence": Request(lambda user, _: user.api.put("/presence"), 204, 0),
}
REQUESTS = {"redis_state": STATE, "redis_cache": CACHE}


def account() -> dict[str, str]:
    name = f"n{uuid4().hex[:12]}"
    return {"username": name, "email": f"{name}@example.org", "password": PASSWORD}


def instance_of(servers: Any, name: str) -> RedisInstance:
    found: RedisInstance = servers.instances[name].instances[name.removeprefix("redis_")]
    return found


def process_of(servers: Any, name: str) -> int:
    with connect(name, instance_of(servers, name)) as client:
        return int(client.info("server")["process_id"])


@contextmanager
def frozen(servers: Any, name: str) -> Iterator[None]:
    """The server is there, takes connections, and answers nobody."""
    process = process_of(servers, name)
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@contextmanager
def killed(servers: Any, name: str) -> Iterator[None]:
    """The server has ended without a word, and is started again on its files."""
    os.kill(process_of(servers, name), signal.SIGKILL)
    try:
        yield
    finally:
        servers.stop(name)
        servers.start(name)


def wait_until_ready(service: Any) -> None:
    deadline = time.monotonic() + 30
    while not service.client.get("/health/ready").is_success:
        assert time.monotonic() < deadline, "the API does not find Redis again"
        time.sleep(0.1)


def answers(requests: dict[str, Request], user: Any, service: Any) -> list[tuple[str, Request, int, float]]:
    """Send every request from several callers at once; returns name, request, status and seconds of each."""

    def one(name: str) -> tuple[str, Request, int, float]:
        started = time.monotonic()
        answer = requests[name].send(user, service.client)
        return name, requests[name], answer.status_code, time.monotonic() - started

    with ThreadPoolExecutor(CALLERS) as threads:
        return list(threads.map(one, [name for name in requests for _ in range(CALLERS)]))


@pytest.mark.parametrize("how", [frozen, killed], ids=["SIGSTOP", "SIGKILL"])
@pytest.mark.parametrize("name", REQUESTS)
def test_every_request_is_answered_as_declared_and_in_time(
    name: str, how: Any, service: Any, servers: Any, new_user: NewUser
) -> None:
    user, requests = new_user(), REQUESTS[name]
    with how(servers, name):
        for what, request, status, seconds in answers(requests, user, service):
            assert (what, status) == (what, request.status)
            assert seconds < request.waits * TIMEOUT + ELSEWHERE, what
        ready = service.client.get("/health/ready")
        assert (ready.status_code, ready.json()["failing"]) == (503, [name])
    wait_until_ready(service)
    assert service.process.poll() is None
    if (name, how) == ("redis_state", killed):
        return  # whether the session came back is the next test's question
    assert user.api.put("/presence").status_code == 204
    assert user.api.get("/profile").status_code == 200


def test_one_request_waits_for_one_time_out(service: Any, servers: Any, new_user: NewUser) -> None:
    """Without load the bound is near: nothing is asked a second time that was too slow the first."""
    user = new_user()
    with frozen(servers, "redis_cache"):
        started = time.monotonic()
        assert user.api.patch("/profile", json={"bio": "new"}).status_code == 200
        assert TIMEOUT * 0.9 < time.monotonic() - started < TIMEOUT * 1.9
    wait_until_ready(service)


def test_requests_in_flight_are_answered_and_sessions_survive_a_kill(
    service: Any, servers: Any, new_user: NewUser
) -> None:
    user = new_user()
    time.sleep(1.2)  # appendfsync everysec: the session is on disk
    seen: list[int] = []
    until = time.monotonic() + 60

    def ask(_: int) -> None:
        while (200 not in seen[-CALLERS:] or 503 not in seen) and time.monotonic() < until:
            seen.append(user.api.get("/profile").status_code)

    with ThreadPoolExecutor(CALLERS) as threads:
        with killed(servers, "redis_state"):
            asking = threads.map(ask, range(CALLERS))
            while 503 not in seen and time.monotonic() < until:
                time.sleep(0.05)
        list(asking)
    wait_until_ready(service)
    assert set(seen) == {200, 503}
    assert user.api.get("/profile").status_code == 200


def test_a_full_state_is_unavailable_and_no_fault_of_ours(service: Any, servers: Any, new_user: NewUser) -> None:
    """noeviction: what cannot be stored is refused. Sessions are still read; what must be written fails as declared."""
    user, reader = new_user(), new_user()
    with connect("state", instance_of(servers, "redis_state")) as client:
        before = cast("dict[str, str]", client.config_get("maxmemory", "maxmemory-clients"))
        # A share of so little memory would end every connection.
        client.config_set("maxmemory-clients", "0", "maxmemory", "1")
        try:
            login = {"login": user.username, "password": PASSWORD}
            assert service.client.post("/auth/login", json=login).status_code == 503
            assert user.api.put("/presence").status_code == 503
            assert reader.api.get("/profile").status_code == 200
        finally:
            client.config_set("maxmemory", before["maxmemory"], "maxmemory-clients", before["maxmemory-clients"])
    assert user.api.put("/presence").status_code == 204


def test_lost_rights_and_a_lost_function_fail_as_declared(service: Any, servers: Any, new_user: NewUser) -> None:
    """Drift by hand is no reason to let passwords be guessed, nor to end the chat."""
    ada, grace = new_user("ada"), new_user("grace")
    made = ada.api.post("/conversations", json={"type": "private", "participants": [grace.id]}).json()
    path = f"/conversations/{made['id']}/messages"
    (library,) = read_declared(checkout()).libraries
    with connect("state", instance_of(servers, "redis_state")) as client:
        client.function_delete(library.name)
        client.execute_command("ACL", "SETUSER", "svc_api", "resetchannels")  # type: ignore[no-untyped-call]
        try:
            login = {"login": ada.username, "password": PASSWORD}
            assert service.client.post("/auth/login", json=login).status_code == 503
            sent = ada.api.put(f"{path}/{uuid4()}", json={"content": "neither limited nor announced"})
            assert sent.status_code == 201
        finally:
            client.function_load(library.code)
            client.execute_command("ACL", "SETUSER", "svc_api", "&conv:*")  # type: ignore[no-untyped-call]
    assert ada.api.put(f"{path}/{uuid4()}", json={"content": "again"}).status_code == 201


def test_wake_ups_arrive(servers: Any, new_user: NewUser) -> None:
    """The service that holds the clients' connections hears of new messages and ended sessions, and of nothing more."""
    ada, grace = new_user("ada"), new_user("grace")
    made = ada.api.post("/conversations", json={"type": "private", "participants": [grace.id]}).json()
    with (
        redis.Redis(
            host="localhost", port=servers.ports["redis_state"], username="svc_ws",
            password=servers.passwords["redis"]["svc_ws"], ssl=True, ssl_ca_certs=str(servers.authority.file),
            ssl_check_hostname=True, decode_responses=True,
        ) as client,
        client.pubsub(ignore_subscribe_messages=True) as listener,
    ):  # fmt: skip
        listener.subscribe(f"conv:{made['id']}")
        listener.subscribe("ctl:session-revoked")
        listener.get_message(timeout=1)
        client_id = uuid4()
        for _ in range(2):  # the second is the same message: nobody is woken up for it
            ada.api.put(f"/conversations/{made['id']}/messages/{client_id}", json={"content": "Hello."})
        assert ada.api.post("/auth/logout").status_code == 204
        heard: list[tuple[str, str]] = []
        until = time.monotonic() + 10
        while len(heard) < 2 and time.monotonic() < until:
            if message := listener.get_message(timeout=0.5):
                heard.append((message["channel"], message["data"]))
        assert [channel for channel, _ in heard] == [f"conv:{made['id']}", "ctl:session-revoked"]
        assert heard[0][1] == "message"
        assert "Hello" not in str(heard)
        assert listener.get_message(timeout=0.2) is None
