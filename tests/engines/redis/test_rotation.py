"""New passwords under load: nobody is refused, no connection ends, and the old ones are worth nothing afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep import redis as engine
from dbkeep.errors import UsageError
from dbkeep.passwords import begun, finished, handed_out
from dbkeep.redis.passwords import NEXT, PREVIOUS
from dbkeep.settings import RedisSettings

from .conftest import Connect

SERVICES = {
    ("svc_auth", "state"): ("SET", "sess:1", "user", "EX", "60"),
    ("svc_api", "state"): ("FCALL", "rate_limit", "1", "rl:api:1", "1000000", "1000000", "1"),
    ("svc_api", "cache"): ("SET", "cache:1", "copy", "EX", "60"),
    ("svc_ws", "state"): ("ZADD", "pres:1", "1", "session"),
    ("chat_monitor", "cache"): ("DBSIZE",),
}


def client_of(settings: RedisSettings, instance: str, user: str, password: str) -> redis.Redis:
    """Return a client of one connection that is never made again: when the server ends it, calls fail."""
    return redis.Redis(
        unix_socket_path=str(settings.instances[instance].socket), username=user, password=password,
        single_connection_client=True, decode_responses=True, retry=Retry(NoBackoff(), 0),
    )  # fmt: skip


@dataclass
class Load:
    """Services that go on working: each keeps one connection, and makes a new one for every other call."""

    settings: RedisSettings
    secrets: dict[str, str]
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def serve(self, user: str, instance: str, words: tuple[str, ...]) -> None:
        try:
            with client_of(self.settings, instance, user, self.secrets[user]) as kept:
                while not self.ending.is_set():
                    kept.execute_command(*words)
                    with client_of(self.settings, instance, user, self.secrets[user]) as new:
                        new.execute_command(*words)
                    self.calls += 1
        except redis.RedisError as error:
            self.failures.append(f"{user} on {instance}: {error}")

    def advance(self) -> None:
        """Return when every service has worked for a while, or one failed."""
        wanted = self.calls + 20 * len(SERVICES)
        while self.calls < wanted and not self.failures:
            self.ending.wait(0.01)


@contextmanager
def load(settings: RedisSettings, secrets: dict[str, str]) -> Iterator[Load]:
    running = Load(settings, dict(secrets))
    threads = [threading.Thread(target=running.serve, args=(*who, words)) for who, words in SERVICES.items()]
    for thread in threads:
        thread.start()
    try:
        running.advance()
        yield running
        running.advance()
    finally:
        running.ending.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def connections(settings: RedisSettings, connect: Connect) -> Callable[[], dict[str, set[str]]]:
    """Return a function that names the connections of each instance, but for its own."""

    def ids() -> dict[str, set[str]]:
        found = {name: connect("admin", name).client_list() for name in settings.instances}
        return {name: {c["id"] for c in clients if c["user"] != "admin"} for name, clients in found.items()}

    return ids


def let_in(settings: RedisSettings, user: str, password: str) -> bool:
    try:
        with client_of(settings, "state", user, password) as client:
            return bool(client.execute_command("PING"))
    except redis.AuthenticationError:
        return False


def test_a_rotation_under_load_refuses_nobody(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], connect: Connect
) -> None:
    users = [user for user in passwords if user != "admin"]
    admin = connect("admin", "state")
    with connect("svc_ws", "state").pubsub() as listener, load(settings, passwords) as services:  # type: ignore[no-untyped-call]
        listener.subscribe("conv:7")
        assert listener.get_message(timeout=5)["type"] == "subscribe"

        secrets = begun(passwords, users)
        engine.apply(settings, declared, secrets)
        assert let_in(settings, "svc_api", secrets["svc_api"])
        assert let_in(settings, "svc_api", secrets["svc_api" + NEXT])
        services.advance()

        secrets = handed_out(secrets)
        assert not engine.plan(settings, declared, secrets)
        services.secrets |= secrets
        services.advance()

        secrets = finished(secrets)
        assert len(engine.apply(settings, declared, secrets)) == len(SERVICES) + 3
        services.advance()
        assert admin.publish("conv:7", "still there") == 1
        assert listener.get_message(timeout=5)["data"] == "still there"
    assert services.failures == []
    for user in ("svc_auth", "svc_api", "svc_ws"):
        assert not let_in(settings, user, passwords[user])
        assert let_in(settings, user, secrets[user])
    assert not engine.plan(settings, declared, secrets)
    engine.apply(settings, declared, passwords)


def test_a_rotation_that_stops_anywhere_is_no_drift_and_goes_on(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str]
) -> None:
    """The vault says what is let in, so a plan of any step is empty once that step is applied."""
    secrets = begun(passwords, ["svc_api"])
    for step in (lambda same: same, handed_out, finished):
        secrets = step(secrets)
        engine.apply(settings, declared, secrets)
        assert not engine.plan(settings, declared, secrets)
        assert let_in(settings, "svc_api", secrets["svc_api"])
    assert not any(name.endswith((NEXT, PREVIOUS)) for name in secrets)
    engine.apply(settings, declared, passwords)


def test_a_third_password_is_drift(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], connect: Connect
) -> None:
    secrets = begun(passwords, ["svc_api"])
    engine.apply(settings, declared, secrets)
    connect("admin", "state").execute_command("ACL", "SETUSER", "svc_api", ">a-password-of-somebody-else")  # type: ignore[no-untyped-call]
    (change,) = engine.plan(settings, declared, secrets)
    assert (change.target, change.summary) == ("state svc_api", "password differs")
    engine.apply(settings, declared, passwords)


@pytest.mark.parametrize("weak", ["", "short", "a" * 64])
def test_a_weak_second_password_is_refused_by_name(
    settings: RedisSettings, declared: engine.Declared, passwords: dict[str, str], weak: str
) -> None:
    with pytest.raises(UsageError, match=r"the password of svc_api_next .*run dbkeep init"):
        engine.plan(settings, declared, {**passwords, "svc_api" + NEXT: weak})


# What a server does to the connections of svc_api and svc_auth, by what is done to svc_api. An apply uses the first.
KEPT = [
    (["ACL", "SETUSER", "svc_api", "reset", "on", "nopass", "~pres:*", "&conv:*", "+ping"], {"svc_api", "svc_auth"}),
    (["ACL", "SETUSER", "svc_api", "off", "resetpass"], {"svc_api", "svc_auth"}),
    (["ACL", "SAVE"], {"svc_api", "svc_auth"}),
    (["ACL", "DELUSER", "svc_api"], {"svc_auth"}),
]


@pytest.mark.parametrize("change", KEPT, ids=[" ".join(command[:4]) for command, _ in KEPT])
def test_which_change_ends_connections(
    settings: RedisSettings,
    declared: engine.Declared,
    passwords: dict[str, str],
    connect: Connect,
    change: tuple[list[str], set[str]],
) -> None:
    """On Redis 7.0 ACL LOAD ends every one, of unchanged users too: an apply never uses it."""
    command, kept = change
    with ExitStack() as stack:
        clients = {
            user: stack.enter_context(client_of(settings, "state", user, passwords[user]))
            for user in ("svc_api", "svc_auth")
        }
        for client in clients.values():
            client.execute_command("PING")
        admin = connect("admin", "state")
        before = {entry["id"]: entry["user"] for entry in admin.client_list()}
        admin.execute_command(*command)  # type: ignore[no-untyped-call]
        now = {entry["id"] for entry in admin.client_list()}
        assert {user for number, user in before.items() if user in clients and number in now} == kept
        engine.apply(settings, declared, passwords)


def test_an_apply_ends_no_connection_of_anybody(
    settings: RedisSettings,
    declared: engine.Declared,
    passwords: dict[str, str],
    connect: Connect,
    connections: Callable[[], dict[str, set[str]]],
) -> None:
    """Not of those whose rights it takes away either: these are refused at their next command."""
    admin = connect("admin", "state")
    admin.execute_command("ACL", "SETUSER", "svc_api", "+del", "~sess:*")  # type: ignore[no-untyped-call]
    with ExitStack() as stack:
        for user in ("svc_api", "svc_auth", "svc_ws", "chat_monitor"):
            stack.enter_context(client_of(settings, "state", user, passwords[user])).execute_command("PING")
        before = connections()
        assert len(before["state"]) >= 4
        engine.apply(settings, declared, passwords)
        assert connections() == before
