"""`python -m chat_api` as a process: what it refuses, whom it trusts, and how it stops."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

PASSWORD = "correct horse battery staple"


def run_to_its_end(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-m", "chat_api"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A second API on a port of its own; yields it when it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-I", "-m", "chat_api"]
    process = subprocess.Popen(
        command, env={**environment, "CHAT_API_LISTEN_PORT": str(port)}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        yield process, f"https://localhost:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"CHAT_API_CA_FILE": None}, "CHAT_API_CA_FILE"),
        ({"CREDENTIALS_DIRECTORY": None}, "CREDENTIALS_DIRECTORY"),
        ({"CREDENTIALS_DIRECTORY": "/nowhere"}, "/nowhere/tls_certificate"),
        ({"CHAT_API_POSTGRESQL_HOSTS": "db1"}, "db1"),
    ],
)
def test_wrong_settings_end_it_with_one_line(
    environment: dict[str, str], change: dict[str, str | None], named: str
) -> None:
    changed = {key: value for key, value in {**environment, **change}.items() if value is not None}
    done = run_to_its_end(changed)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("chat_api: ")
    assert named in line


def test_stores_of_another_authority_are_not_trusted(environment: dict[str, str], servers: Any, tmp_path: Path) -> None:
    foreign = type(servers.authority)(tmp_path)
    trust = ssl.create_default_context(cafile=str(servers.authority.file))
    with running({**environment, "CHAT_API_CA_FILE": str(foreign.file)}) as (_, url):
        answer = httpx.get(f"{url}/health/ready", verify=trust, timeout=20, trust_env=False)
    assert answer.status_code == 503
    assert sorted(answer.json()["failing"]) == ["mongodb", "postgresql", "redis_cache", "redis_state"]


def test_only_modern_tls_is_spoken(service: Any, servers: Any) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(service.url.replace("https", "http"), trust_env=False)
    old = ssl.create_default_context(cafile=str(servers.authority.file))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-SHA")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/health/live", verify=old, trust_env=False)
    answer = service.client.get("/health/live")
    assert "server" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_request_in_flight_is_answered_before_it_stops(
    environment: dict[str, str], servers: Any, new_user: Callable[..., Any]
) -> None:
    user = new_user()
    trust = ssl.create_default_context(cafile=str(servers.authority.file))
    with running(environment) as (process, url), httpx.Client(base_url=url, verify=trust, trust_env=False) as client:
        client.timeout = httpx.Timeout(20)
        assert client.get("/health/ready").is_success
        body = {"login": user.username, "password": PASSWORD}
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(client.post, "/auth/login", json=body)
            time.sleep(0.05)
            process.terminate()
            assert answer.result().status_code == 200
        client.close()
        process.wait(30)


PASS_SOCKET = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-I", "-m", "chat_api"])
"""


def test_a_connection_waits_in_the_passed_socket_while_it_restarts(environment: dict[str, str], servers: Any) -> None:
    trust = ssl.create_default_context(cafile=str(servers.authority.file))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://localhost:{listening.getsockname()[1]}/health/live"
        passed = listening.fileno()
        command = [sys.executable, "-c", PASS_SOCKET, str(passed)]

        def ask() -> int:
            return httpx.get(url, verify=trust, timeout=60, trust_env=False).status_code

        for _ in range(2):
            with ThreadPoolExecutor(1) as thread:
                # Nobody accepts yet.
                answer = thread.submit(ask)
                process = subprocess.Popen(command, env=environment, pass_fds=[passed], stderr=subprocess.DEVNULL)
                try:
                    assert answer.result() == 200
                finally:
                    process.terminate()
                    process.wait(30)


def test_a_body_over_the_bound_is_refused(service: Any) -> None:
    content = b'{"login": "' + b"x" * 70_000 + b'"}'
    for body in (content, iter([content])):
        answer = service.client.post("/auth/login", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_wrong_method_names_the_right_ones(service: Any) -> None:
    answer = service.client.put("/profile")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, PATCH"
