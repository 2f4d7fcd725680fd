"""A site whose keys change: servers of its own, two processes of the API, and accounts whose addresses are known."""

from __future__ import annotations

import itertools
import json
import secrets
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from argon2 import PasswordHasher

from chat_api.encryption import BlindIndex, Cell, FieldCipher, normal_address
from chat_api.identifiers import uuid7
from chat_api.key_ring import KeyRing
from dbkeep.ports import free_port
from dbkeep.redis.connect import connect as redis
from dbkeep.sandbox.authority import Authority

from .conftest import ENGINES, PASSWORD, Servers, wait_until_ready, write_credentials

USERS = 2000
AGENT = (sys.executable, "-c", "from dbkeep.cli import main; main()", "agent", "keys")


@dataclass
class Rings:
    """The keys as the vault has them."""

    field_key: KeyRing
    blind_index_key: KeyRing

    @property
    def cipher(self) -> FieldCipher:
        return FieldCipher(self.field_key)

    @property
    def index(self) -> BlindIndex:
        return BlindIndex(self.blind_index_key, "users", "email")


@dataclass
class Site:
    """Servers of its own, two processes of the API before them, and accounts whose addresses are known."""

    servers: Servers
    credentials: Path
    rings: Rings
    environment: dict[str, str]
    addresses: dict[UUID, str] = field(default_factory=dict)
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))

    def connect(self) -> psycopg.Connection[Any]:
        settings = self.servers.postgresql
        assert settings is not None
        return psycopg.connect(
            host=str(settings.socket_directory), port=settings.port, user="postgres", dbname="chat", autocommit=True
        )

    def use(self, **rings: KeyRing) -> None:
        """Give the hosts these rings; a process reads them when it starts."""
        for name, ring in rings.items():
            setattr(self.rings, name, ring)
            (self.credentials / name).write_text(ring.text, encoding="ascii")

    def fill(self, number: int = USERS) -> None:
        """Make accounts as the API would with the newest keys, all with one password."""
        password_hash = PasswordHasher().hash(PASSWORD)
        made = {uuid7(): f"user{secrets.token_hex(6)}@example.org" for _ in range(number)}
        columns = "(id, email, email_index, username, password_hash, updated_at)"
        with self.connect() as connection:
            connection.execute("TRUNCATE chat.users CASCADE")
            with connection.cursor().copy(f"COPY chat.users {columns} FROM STDIN") as copy:
                for user, address in made.items():
                    email = self.rings.cipher.encrypt(address, Cell("users", "email", user))
                    copy.write_row((user, email, self.rings.index.of(address), user.hex, password_hash, "2026-01-01Z"))
        self.addresses = made

    def request(self, **more: Any) -> str:
        return json.dumps(
            {
                "password": self.servers.passwords["postgresql"]["app_keys"],
                "field_keys": self.rings.field_key.text,
                "blind_index_keys": self.rings.blind_index_key.text,
                "every": len(self.rings.blind_index_key.keys) > 1,
                "environment_file": str(self.credentials / "chat_api.env"),
                **more,
            }
        )

    def agent(self, word: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*AGENT, word], input=self.request(**more), capture_output=True, text=True, check=False, timeout=120
        )

    def survey(self) -> dict[str, Any]:
        done = self.agent("survey")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def reencrypt(self) -> dict[str, Any]:
        done = self.agent("reencrypt")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def start_reencrypting(self, **more: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*AGENT, "reencrypt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdin is not None
        process.stdin.write(self.request(**more))
        process.stdin.close()
        process.stdin = None
        return process

    def reencrypt_killed(self, batches: int) -> int:
        """Kill the agent with SIGKILL after that many batches; returns its exit status."""
        process = self.start_reencrypting(rate=1500)
        assert process.stderr is not None
        for _ in range(batches):
            assert process.stderr.readline().endswith("values\n")
        process.kill()
        process.communicate()
        return process.returncode

    def restart(self, number: int) -> None:
        """Stop one of the two processes as a service manager does, if it runs, and start it with the keys of now."""
        if number in self.processes:
            self.processes[number].terminate()
            self.processes[number].wait(30)
        log = self.servers.folder / f"chat_api-{number}.log"
        environment = {**self.environment, "CHAT_API_LISTEN_PORT": str(self.ports[number])}
        with log.open("ab") as output:
            command = [sys.executable, "-m", "chat_api"]
            self.processes[number] = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        with self.client(number) as client:
            wait_until_ready(client, self.processes[number], log)

    def roll(self) -> None:
        for number in (0, 1):
            self.restart(number)

    def client(self, number: int) -> httpx.Client:
        trust = ssl.create_default_context(cafile=str(self.servers.authority.file))
        url = f"https://localhost:{self.ports[number]}"
        return httpx.Client(base_url=url, verify=trust, timeout=20, trust_env=False)

    def post(self, path: str, body: dict[str, str], *, first: int = 0) -> httpx.Response:
        """Send a request as a balancer does: to the other process where one does not listen, again where it is busy."""
        self.forget_limits()
        for attempt in range(100):
            with suppress(httpx.ConnectError), self.client((first + attempt) % 2) as client:
                answer = client.post(path, json=body)
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return answer
            time.sleep(attempt / 100)
        pytest.fail("no process answers")

    def register(self, address: str, *, first: int = 0) -> int:
        body = {"username": f"u{uuid4().hex[:12]}", "email": address, "password": PASSWORD}
        answer = self.post("/auth/register", body, first=first)
        if answer.status_code == 201:
            self.addresses[UUID(answer.json()["id"])] = address
        return answer.status_code

    def log_in(self, address: str, *, first: int = 0) -> int:
        return self.post("/auth/login", {"login": address, "password": PASSWORD}, first=first).status_code

    def forget_limits(self) -> None:
        with redis("state", self.servers.instances["redis_state"].instances["state"]) as client:
            for key in client.scan_iter("rl:*"):
                client.delete(key)

    def assert_all_current(self) -> None:
        """Every account has its address, encrypted and indexed with the newest keys and no others."""
        cipher = FieldCipher(KeyRing({self.rings.cipher.newest: self.rings.field_key.keys[self.rings.cipher.newest]}))
        with self.connect() as connection:
            rows = connection.execute("SELECT id, email, email_index FROM chat.users").fetchall()
        found = {user: cipher.decrypt(email, Cell("users", "email", user)) for user, email, _ in rows}
        assert found == self.addresses
        assert all(index == self.rings.index.of(normal_address(found[user])) for user, _, index in rows)


@contextmanager
def start() -> Iterator[Site]:
    """Start the servers and yield the site, empty: `fill` makes its accounts and `roll` starts its processes."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-keys-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        servers = Servers(folder, Authority(folder))
        made: Site | None = None
        try:
            for engine in ENGINES:
                servers.start(engine)
            credentials = write_credentials(servers)
            rings = Rings(
                *(KeyRing.parse((credentials / name).read_text()) for name in ("field_key", "blind_index_key"))
            )
            environment = servers.api_environment(credentials)
            variables = (f"{key}={value}\n" for key, value in environment.items() if key.startswith("CHAT_API_"))
            (credentials / "chat_api.env").write_text("# Made by a test.\n" + "".join(variables), encoding="ascii")
            made = Site(servers, credentials, rings, environment)
            yield made
        finally:
            for process in made.processes.values() if made else ():
                process.terminate()
                process.wait(30)
            servers.stop_all()


@contextmanager
def busy(site: Site) -> Iterator[list[int]]:
    """Log users in by address and register new ones all the while; yields the answers' status codes."""
    answers: list[int] = []
    stop = threading.Event()
    known = list(site.addresses.values())

    def work(act: Callable[[int], int]) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            answers.append(act(number))

    acts: list[Callable[[int], int]] = [
        lambda number: site.log_in(known[number], first=0),
        lambda number: site.log_in(known[-1 - number], first=1),
        lambda number: 200 if site.register(f"new{uuid4().hex}@example.org", first=number % 2) == 201 else 0,
    ]
    with ThreadPoolExecutor(len(acts)) as threads:
        running = [threads.submit(work, act) for act in acts]
        try:
            yield answers
        finally:
            stop.set()
            for future in running:
                future.result()


def wait_for_lock(site: Site, role: str, still: Callable[[], bool]) -> None:
    """Wait until a session of `role` waits for a lock; fails when `still` is false before."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'"
    with site.connect() as watcher:
        while watcher.execute(query, (role,)).fetchone() == (0,):
            assert still()
            time.sleep(0.02)
