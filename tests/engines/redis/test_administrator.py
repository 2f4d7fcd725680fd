"""The administrator works by the local socket: what lets it in is known there only, and a stop on the way heals."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep import redis as engine
from dbkeep.checks.facts import redis as facts
from dbkeep.errors import DbkeepError
from dbkeep.host import replace_file
from dbkeep.ports import free_port
from dbkeep.redis.connect import connect as connect_as_agent
from dbkeep.redis.statements import directives
from dbkeep.sandbox.redis import installed_version, start
from dbkeep.settings import RedisInstance, RedisSettings

from .conftest import MEMORY_BYTES, password_file
from .test_certificate import issue


@dataclass(frozen=True)
class Provisioned:
    """One instance as the role leaves it: server and password file have the vault's password of admin."""

    settings: RedisSettings
    port: int
    authority: Path

    @property
    def instance(self) -> RedisInstance:
        return self.settings.instances["state"]


@pytest.fixture(scope="module")
def alone(declared: engine.Declared) -> engine.Declared:
    """What is declared, for a host with the instance `state` only."""
    own = {"state": declared.instances.instances["state"]}
    return declared.model_copy(update={"instances": declared.instances.model_copy(update={"instances": own})})


@pytest.fixture
def provisioned(alone: engine.Declared, passwords: dict[str, str]) -> Iterator[Provisioned]:
    # The server's user may enter it, unlike pytest's own.
    with tempfile.TemporaryDirectory(prefix="dbkeep-redis-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        issue(folder)
        host_settings = {
            "bind": "127.0.0.1",
            "tls-port": str(port),
            "tls-cert-file": str(folder / "redis.crt"),
            "tls-key-file": str(folder / "redis.key"),
            "tls-ca-cert-file": str(folder / "ca.crt"),
        }
        started_as = directives(alone, "state", installed_version(), host_settings, MEMORY_BYTES)
        with start(folder / "server", {"state": started_as}, memory_bytes=MEMORY_BYTES) as started:
            instance = started.instances["state"].model_copy(update={"host_settings": host_settings})
            with connect_as_agent("state", instance) as client:
                client.execute_command("ACL", "SETUSER", "admin", "resetpass", ">" + passwords["admin"])  # type: ignore[no-untyped-call]
                client.execute_command("ACL", "SAVE")  # type: ignore[no-untyped-call]
            replace_file(password_file(instance), passwords["admin"] + "\n")
            settings = started.model_copy(update={"instances": {"state": instance}})
            yield Provisioned(settings, port, folder / "ca.crt")


def client_by_tls(at: Provisioned, user: str, password: str) -> redis.Redis:
    return redis.Redis(
        host="localhost", port=at.port, username=user, password=password, retry=Retry(NoBackoff(), 0),
        ssl=True, ssl_ca_certs=str(at.authority), ssl_check_hostname=True,
    )  # fmt: skip


def ping_by_tls(at: Provisioned, user: str, password: str) -> bool:
    with client_by_tls(at, user, password) as client:
        return bool(client.ping())


def test_what_the_vault_holds_lets_nobody_be_admin_after_the_first_apply(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    settings = provisioned.settings
    file = password_file(provisioned.instance)
    assert ping_by_tls(provisioned, "admin", passwords["admin"])
    engine.apply(settings, alone, passwords)
    with pytest.raises(redis.AuthenticationError):
        ping_by_tls(provisioned, "admin", passwords["admin"])
    assert ping_by_tls(provisioned, "svc_api", passwords["svc_api"])
    kept = file.read_text()
    assert kept.strip() not in passwords.values()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not engine.plan(settings, alone, passwords)
    assert engine.version(settings)
    assert file.read_text() == kept


def test_a_stop_between_file_and_server_is_finished_by_the_next_apply(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    settings = provisioned.settings
    first, *_ = engine.plan(settings, alone, passwords)
    assert (first.kind, first.summary) == ("password file", "does not hold a password that only this host knows")
    replace_file(first.operation.path, first.operation.text)  # and then the agent was killed
    changes = engine.apply(settings, alone, passwords)
    assert "acl user state admin" in [f"{change.kind} {change.target}" for change in changes]
    assert not engine.plan(settings, alone, passwords)
    with pytest.raises(redis.AuthenticationError):
        ping_by_tls(provisioned, "admin", passwords["admin"])


def test_lost_acl_files_are_no_lock_out(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    """The role writes an ACL file with the vault's password where there is none; the password file stays."""
    settings = provisioned.settings
    engine.apply(settings, alone, passwords)
    with connect_as_agent("state", provisioned.instance) as client:
        client.execute_command("ACL", "SETUSER", "admin", "resetpass", ">" + passwords["admin"])  # type: ignore[no-untyped-call]
    engine.apply(settings, alone, passwords)
    assert not engine.plan(settings, alone, passwords)


def test_a_lost_password_is_one_line_that_says_what_to_do(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    settings = provisioned.settings
    instance = provisioned.instance
    engine.apply(settings, alone, passwords)
    replace_file(password_file(instance), passwords["admin"] + "\n")  # what the role writes where there is none
    with pytest.raises(DbkeepError, match=r"admin is refused: .*put it back, or remove .*users\.acl") as refused:
        engine.plan(settings, alone, passwords)
    assert passwords["admin"] not in str(refused.value)


def test_redis_cannot_bind_a_user_to_the_socket_so_its_session_is_found(provisioned: Provisioned) -> None:
    """Why all of the above: the right password is enough, wherever it comes from."""
    password = password_file(provisioned.instance).read_text().strip()
    with (
        connect_as_agent("state", provisioned.instance) as agent,
        client_by_tls(provisioned, "admin", password) as remote,
    ):
        assert facts.describe(agent, [])["network_administrators"] == 0
        assert remote.ping()
        assert facts.describe(agent, [])["network_administrators"] == 1
