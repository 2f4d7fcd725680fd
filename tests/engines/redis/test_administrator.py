"""The administrator works by the local socket: what lets it in is known there only, and a stop on the way heals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep import redis as engine
from dbkeep.checks.facts import redis as facts
from dbkeep.errors import DbkeepError
from dbkeep.host import replace_file
from dbkeep.redis.connect import connect as connect_as_agent
from dbkeep.sandbox.redis import TLS, start
from dbkeep.settings import RedisSettings

from .conftest import MEMORY_BYTES
from .test_certificate import free_port, issue

Provisioned = tuple[RedisSettings, TLS]


@pytest.fixture
def provisioned(tmp_path: Path, passwords: dict[str, str]) -> Iterator[Provisioned]:
    """One instance as the role leaves it: server and password file have the vault's password of admin."""
    files = tmp_path / "tls"
    files.mkdir()
    issue(files)
    tls = TLS(free_port(), files / "redis.crt", files / "redis.key", files / "ca.crt")
    with start(tmp_path, {"state": {}}, tls={"state": tls}, memory_bytes=MEMORY_BYTES) as settings:
        instance = settings.instances["state"]
        with connect_as_agent("state", instance) as client:
            client.execute_command("ACL", "SETUSER", "admin", "resetpass", ">" + passwords["admin"])
            client.execute_command("ACL", "SAVE")
        replace_file(instance.password_file, passwords["admin"] + "\n")
        yield settings, tls


@pytest.fixture(scope="module")
def alone(declared: engine.Declared) -> engine.Declared:
    """What is declared, for a host with the instance `state` only."""
    own = {"state": declared.instances.instances["state"]}
    instances = declared.instances.model_copy(update={"instances": own, "settings": {}, "since": {}})
    return declared.model_copy(update={"instances": instances})


def client_by_tls(tls: TLS, user: str, password: str) -> redis.Redis:
    return redis.Redis(
        host="localhost", port=tls.port, username=user, password=password, retry=Retry(NoBackoff(), 0),
        ssl=True, ssl_ca_certs=str(tls.ca), ssl_check_hostname=True,
    )  # fmt: skip


def ping_by_tls(tls: TLS, user: str, password: str) -> bool:
    with client_by_tls(tls, user, password) as client:
        return bool(client.ping())


def test_what_the_vault_holds_lets_nobody_be_admin_after_the_first_apply(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    settings, tls = provisioned
    file = settings.instances["state"].password_file
    assert ping_by_tls(tls, "admin", passwords["admin"])
    engine.apply(settings, alone, passwords)
    with pytest.raises(redis.AuthenticationError):
        ping_by_tls(tls, "admin", passwords["admin"])
    assert ping_by_tls(tls, "svc_api", passwords["svc_api"])
    kept = file.read_text()
    assert kept.strip() not in passwords.values()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not engine.plan(settings, alone, passwords)
    assert engine.version(settings)
    assert file.read_text() == kept


def test_a_stop_between_file_and_server_is_finished_by_the_next_apply(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    settings, tls = provisioned
    first, *_ = engine.plan(settings, alone, passwords)
    assert (first.kind, first.summary) == ("password file", "does not hold a password that only this host knows")
    replace_file(first.operation.path, first.operation.text)  # and then the agent was killed
    changes = engine.apply(settings, alone, passwords)
    assert "acl user state admin" in [f"{change.kind} {change.target}" for change in changes]
    assert not engine.plan(settings, alone, passwords)
    with pytest.raises(redis.AuthenticationError):
        ping_by_tls(tls, "admin", passwords["admin"])


def test_lost_acl_files_are_no_lock_out(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    """The role writes an ACL file with the vault's password where there is none; the password file stays."""
    settings, _ = provisioned
    engine.apply(settings, alone, passwords)
    with connect_as_agent("state", settings.instances["state"]) as client:
        client.execute_command("ACL", "SETUSER", "admin", "resetpass", ">" + passwords["admin"])
    engine.apply(settings, alone, passwords)
    assert not engine.plan(settings, alone, passwords)


def test_a_lost_password_is_one_line_that_says_what_to_do(
    provisioned: Provisioned, alone: engine.Declared, passwords: dict[str, str]
) -> None:
    settings, _ = provisioned
    instance = settings.instances["state"]
    engine.apply(settings, alone, passwords)
    replace_file(instance.password_file, passwords["admin"] + "\n")  # what the role writes where there is none
    with pytest.raises(DbkeepError, match=r"admin is refused: .*put it back, or remove .*users\.acl") as refused:
        engine.plan(settings, alone, passwords)
    assert passwords["admin"] not in str(refused.value)


def test_redis_cannot_bind_a_user_to_the_socket_so_its_session_is_found(provisioned: Provisioned) -> None:
    """Why all of the above: the right password is enough, wherever it comes from."""
    settings, tls = provisioned
    password = settings.instances["state"].password_file.read_text().strip()
    with (
        connect_as_agent("state", settings.instances["state"]) as agent,
        client_by_tls(tls, "admin", password) as remote,
    ):
        assert facts.describe(agent, [])["network_administrators"] == 0
        assert remote.ping()
        assert facts.describe(agent, [])["network_administrators"] == 1
