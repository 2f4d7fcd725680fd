"""New keys for stored addresses on real servers: killed, beside log-ins, through every state of a ring."""

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
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from argon2 import PasswordHasher

from chat_api.encryption import BlindIndex, Cell, DecryptionError, FieldCipher, normal_address
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


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
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


def new_key() -> bytes:
    return secrets.token_bytes(32)


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on_beside_log_ins_and_registrations(site: Site) -> None:
    site.fill()
    site.roll()
    site.use(field_key=site.rings.field_key.with_pending(2, new_key()))
    with busy(site) as answers:
        site.roll()
        site.use(field_key=site.rings.field_key.promoted())
        site.roll()
        seen = []
        for batches in (1, 3, 2):
            assert site.reencrypt_killed(batches) == -9
            seen.append(site.survey()["values"].get("1", 0))
        result = site.reencrypt()
        answered = len(answers)
    # Each killed run left a part undone, smaller each time, and the last run did the rest and nothing twice.
    assert USERS > seen[0] > seen[1] > seen[2] > 0
    assert result["rewritten"] <= seen[2] < USERS
    assert result["unreadable"] == 0
    assert set(site.survey()["values"]) == {"2"}
    assert answered > 10
    assert set(answers) == {200}
    site.assert_all_current()


def test_it_changes_no_updated_at_and_nothing_of_a_current_value(site: Site) -> None:
    site.fill(50)
    site.use(field_key=site.rings.field_key.with_pending(3, new_key()).promoted())
    assert site.reencrypt()["rewritten"] == 50
    query = "SELECT id, email, xmin::text, updated_at FROM chat.users ORDER BY id"
    with site.connect() as connection:
        before = connection.execute(query).fetchall()
        assert site.reencrypt()["rewritten"] == 0
        assert connection.execute(query).fetchall() == before
        assert {row[3] for row in before} == {datetime.fromisoformat("2026-01-01T00:00:00+00:00")}
        connection.execute("UPDATE chat.users SET is_verified = true")
        assert connection.execute(
            "SELECT count(*) FROM chat.users WHERE updated_at < now() - '1d'::interval"
        ).fetchone() == (0,)


def test_a_value_that_changes_meanwhile_is_not_overwritten(site: Site) -> None:
    site.fill(1)
    site.use(field_key=site.rings.field_key.with_pending(4, new_key()).promoted())
    (user,) = site.addresses
    with site.connect() as holder:
        with holder.transaction():
            holder.execute("SELECT FROM chat.users WHERE id = %s FOR UPDATE", (user,))
            process = site.start_reencrypting()
            wait_for_lock(site, "app_keys", lambda: process.poll() is None)
            changed = FieldCipher(KeyRing({1: site.rings.field_key.keys[1]}))
            email = changed.encrypt("changed@example.org", Cell("users", "email", user))
            holder.execute("UPDATE chat.users SET email = %s WHERE id = %s", (email, user))
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["rewritten"] == 1
    site.addresses[user] = "changed@example.org"
    site.assert_all_current()


def test_what_does_not_decrypt_is_named_and_left(site: Site) -> None:
    site.fill(20)
    site.use(field_key=site.rings.field_key.with_pending(5, new_key()).promoted())
    first, second, third = list(site.addresses)[:3]
    with site.connect() as connection:
        # Two accounts swap their values, a third has none.
        connection.execute(
            "UPDATE chat.users AS one SET email = other.email FROM chat.users AS other"
            " WHERE (one.id, other.id) IN ((%(a)s, %(b)s), (%(b)s, %(a)s))",
            {"a": first, "b": second},
        )
        connection.execute("UPDATE chat.users SET email = 'e1:77:x' WHERE id = %s", (third,))
        rows = dict(connection.execute("SELECT id, email FROM chat.users").fetchall())
    result = site.reencrypt()
    assert (result["rewritten"], result["unreadable"]) == (17, 3)
    assert set(result["rows"]) == {str(first), str(second), str(third)}
    with site.connect() as connection:
        after = dict(connection.execute("SELECT id, email FROM chat.users").fetchall())
    assert [after[user] for user in (first, second, third)] == [rows[user] for user in (first, second, third)]
    for user, other in ((first, second), (second, first)):
        with pytest.raises(DecryptionError):
            site.rings.cipher.decrypt(after[user], Cell("users", "email", user))
        assert site.rings.cipher.decrypt(after[user], Cell("users", "email", other)) == site.addresses[other]


@pytest.mark.long
def test_the_index_changes_without_a_moment_in_which_an_address_is_unknown_or_free(site: Site) -> None:
    site.fill(300)
    site.roll()
    old = site.rings.blind_index_key.newest
    known = iter(list(site.addresses.values()))
    with busy(site) as answers:
        new = site.rings.blind_index_key.with_pending(old + 1, new_key())
        site.use(blind_index_key=new)
        site.restart(0)
        assert_taken_once(site)
        site.restart(1)
        site.use(blind_index_key=new.promoted())
        site.restart(0)
        # Process 0 writes with the new key, process 1 with the old one.
        assert_taken_once(site)
        assert_waits_for_the_other_key(site)
        assert site.log_in(next(known), first=0) == site.log_in(next(known), first=1) == 200
        site.restart(1)
        assert site.survey()["indexes"][str(old)] >= 300
        site.reencrypt()
        assert set(site.survey()["indexes"]) == {str(old + 1)}
        assert_taken_once(site)
        site.use(blind_index_key=site.rings.blind_index_key.without(old))
        site.restart(0)
        assert_taken_once(site)
        site.restart(1)
    assert set(answers) == {200}
    site.assert_all_current()


def assert_taken_once(site: Site) -> None:
    """An address is registered once, whichever process is asked first, second or at the same time."""
    for first in (0, 1):
        address = f"once{uuid4().hex}@example.org"
        assert site.register(address, first=first) == 201
        assert site.register(address.upper(), first=1 - first) == 409
    address = f"once{uuid4().hex}@example.org"
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(lambda first: site.register(address, first=first), (0, 1))) == [201, 409]


def assert_waits_for_the_other_key(site: Site) -> None:
    """A registration that is under way with the old index key is seen by one with the new key."""
    address = f"wait{uuid4().hex}@example.org"
    old = next(iter(site.rings.index.candidates(address).values()))
    with site.connect() as other, ThreadPoolExecutor(1) as thread:
        with other.transaction():
            other.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (old.hex(),))
            user = uuid7()
            email = site.rings.cipher.encrypt(address, Cell("users", "email", user))
            other.execute(
                "INSERT INTO chat.users (id, email, email_index, username, password_hash)"
                " VALUES (%s, %s, %s, %s, '$argon2id$')",
                (user, email, old, user.hex),
            )
            waiting = thread.submit(site.register, address, first=0)
            wait_for_lock(site, "app_auth", lambda: not waiting.done())
        assert waiting.result() == 409
    site.addresses[user] = address


def wait_for_lock(site: Site, role: str, still: Callable[[], bool]) -> None:
    """Wait until a session of `role` waits for a lock; fails when `still` is false before."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'"
    with site.connect() as watcher:
        while watcher.execute(query, (role,)).fetchone() == (0,):
            assert still()
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        ({"password": "wrong"}, 2, "app_keys"),
        ({"field_keys": "1:short"}, 2, "32 bytes"),
        ({"rate": 0}, 2, "rate"),
        ({"environment_file": "/nowhere/chat_api.env"}, 2, "/nowhere/chat_api.env"),
    ],
)
def test_a_bad_request_is_one_line_without_a_key(site: Site, change: dict[str, Any], status: int, named: str) -> None:
    done = site.agent("reencrypt", **change)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert named in line
    assert str(change.get("field_keys", "no key")) not in line


def test_a_second_run_waits_for_the_first_and_says_so(site: Site) -> None:
    with site.connect() as connection:
        connection.execute("SELECT pg_advisory_lock(hashtextextended('chat reencryption', 0))")
        done = site.agent("reencrypt")
    assert done.returncode == 1
    assert "re-encrypts already" in done.stderr


def test_app_keys_reaches_addresses_and_nothing_else(site: Site) -> None:
    port = site.servers.ports["postgresql"]
    password = site.servers.passwords["postgresql"]["app_keys"]
    forbidden = (
        "SELECT password_hash FROM chat.users",
        "SELECT username FROM chat.users",
        "UPDATE chat.users SET is_active = true",
        "INSERT INTO chat.users (id) VALUES (gen_random_uuid())",
        "DELETE FROM chat.users",
        "SELECT FROM chat.refresh_tokens",
        "SELECT FROM chat.profiles",
    )
    with psycopg.connect(
        host="127.0.0.1", port=port, user="app_keys", password=password, dbname="chat", autocommit=True
    ) as connection:
        assert connection.execute("SELECT count(email) FROM chat.users").fetchone() is not None
        for statement in forbidden:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
