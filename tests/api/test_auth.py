"""Registration, login, refresh and logout."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest

PASSWORD = "correct horse battery staple"
NewUser = Callable[..., Any]


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    return body


def superuser(servers: Any) -> psycopg.Connection[Any]:
    settings = servers.postgresql
    return psycopg.connect(
        host=str(settings.socket_directory), port=settings.port, user=settings.user, dbname=settings.database
    )


def test_email_is_stored_encrypted_and_the_token_as_a_hash(new_user: NewUser, servers: Any) -> None:
    user = new_user()
    with superuser(servers) as connection:
        row = connection.execute("SELECT email, password_hash FROM chat.users WHERE id = %s", (user.id,)).fetchone()
        tokens = connection.execute("SELECT token FROM chat.refresh_tokens WHERE user_id = %s", (user.id,)).fetchall()
    assert row is not None
    assert row[0].startswith("e1:1:")
    assert "@" not in row[0]
    assert row[1].startswith("$argon2id$")
    assert len(tokens) == 1
    assert user.refresh_token.partition(".")[2] not in tokens[0][0]


def test_username_and_address_are_taken_once(new_user: NewUser, service: Any) -> None:
    user = new_user()
    again = {"username": user.username, "email": f"{uuid4().hex}@example.org", "password": PASSWORD}
    problem(service.client.post("/auth/register", json=again), 409)
    same_address = {"username": f"u{uuid4().hex[:12]}", "email": user.email.upper(), "password": PASSWORD}
    problem(service.client.post("/auth/register", json=same_address), 409)


def test_user_logs_in_with_the_address_too(new_user: NewUser, service: Any) -> None:
    user = new_user()
    answer = service.client.post("/auth/login", json={"login": user.email.upper(), "password": PASSWORD})
    assert answer.status_code == 200


def test_wrong_password_and_unknown_user_look_the_same(new_user: NewUser, service: Any) -> None:
    user = new_user()
    took: dict[str, list[float]] = {user.username: [], "nobody-" + uuid4().hex[:12]: []}
    bodies = []
    for _ in range(3):
        for login, times in took.items():
            started = time.monotonic()
            answer = service.client.post("/auth/login", json={"login": login, "password": "not the password"})
            times.append(time.monotonic() - started)
            bodies.append(problem(answer, 401))
    assert all(body == bodies[0] for body in bodies)
    known, unknown = (statistics.median(times) for times in took.values())
    # A login that skips the hash takes a few milliseconds instead of the tens that Argon2id takes.
    assert unknown > known / 3


def test_inactive_user_cannot_log_in_or_refresh(new_user: NewUser, service: Any, servers: Any) -> None:
    user = new_user()
    with superuser(servers) as connection:
        connection.execute("UPDATE chat.users SET is_active = false WHERE id = %s", (user.id,))
    problem(service.client.post("/auth/login", json={"login": user.username, "password": PASSWORD}), 401)
    problem(service.client.post("/auth/refresh", json={"refresh_token": user.refresh_token}), 401)


def test_refresh_rotates_and_the_new_tokens_work(new_user: NewUser, service: Any) -> None:
    user = new_user()
    first = service.client.post("/auth/refresh", json={"refresh_token": user.refresh_token})
    assert first.status_code == 200
    access = {"Authorization": f"Bearer {first.json()['access_token']}"}
    assert service.client.get("/profile", headers=access).json()["user_id"] == user.id
    second = service.client.post("/auth/refresh", json={"refresh_token": first.json()["refresh_token"]})
    assert second.status_code == 200


def test_reuse_of_a_refresh_token_revokes_its_family(new_user: NewUser, service: Any) -> None:
    user = new_user()
    successor = service.client.post("/auth/refresh", json={"refresh_token": user.refresh_token}).json()
    problem(service.client.post("/auth/refresh", json={"refresh_token": user.refresh_token}), 401)
    problem(service.client.post("/auth/refresh", json={"refresh_token": successor["refresh_token"]}), 401)
    problem(service.client.get("/profile", headers={"Authorization": f"Bearer {successor['access_token']}"}), 401)
    problem(user.api.get("/profile"), 401)


def test_another_login_survives_the_revocation_of_a_family(new_user: NewUser, service: Any) -> None:
    user = new_user()
    other = service.client.post("/auth/login", json={"login": user.username, "password": PASSWORD}).json()
    service.client.post("/auth/refresh", json={"refresh_token": user.refresh_token})
    problem(service.client.post("/auth/refresh", json={"refresh_token": user.refresh_token}), 401)
    assert service.client.post("/auth/refresh", json={"refresh_token": other["refresh_token"]}).status_code == 200


def test_logout_ends_access_and_refresh(new_user: NewUser, service: Any) -> None:
    user = new_user()
    assert user.api.post("/auth/logout").status_code == 204
    problem(user.api.get("/profile"), 401)
    problem(service.client.post("/auth/refresh", json={"refresh_token": user.refresh_token}), 401)


@pytest.mark.parametrize("token", ["", "a.b", "x" * 150, f"{'0a' * 16}.{'A' * 43}"])
def test_what_was_never_a_refresh_token_is_refused(service: Any, token: str) -> None:
    assert service.client.post("/auth/refresh", json={"refresh_token": token}).status_code in {401, 422}


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Basic dXNlcjpwYXNz", "Bearer a.b.c"])
def test_no_access_without_a_valid_token(service: Any, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    answer = service.client.get("/profile", headers=headers)
    problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_login_of_one_account_is_limited(new_user: NewUser, service: Any) -> None:
    user = new_user()
    wrong = {"login": user.username, "password": "not the password"}
    answers = [service.client.post("/auth/login", json=wrong) for _ in range(7)]
    assert [answer.status_code for answer in answers][-1] == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    # The right password does not help either, or guessing would go on.
    problem(service.client.post("/auth/login", json={"login": user.username, "password": PASSWORD}), 429)


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": "Upper"},
        {"username": "a"},
        {"email": "no-address"},
        {"email": "\u00e9" * 60 + "@" + "\u00e9" * 120 + ".example"},
        {"email": "a@b\x00c"},
        {"email": "\ud800@example.org"},
        {"password": "short"},
        {"password": "nul\x00" + "x" * 12},
        {"password": 123456789012},
        {"surplus": 1},
    ],
)
def test_bad_registration_is_refused_without_an_echo(service: Any, wrong: dict[str, Any]) -> None:
    import json

    body = {"username": f"u{uuid4().hex[:12]}", "email": "a@example.org", "password": "never to be echoed"} | wrong
    answer = service.client.post(
        "/auth/register", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    problem(answer, 422)
    assert "never to be echoed" not in answer.text
