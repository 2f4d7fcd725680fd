"""The certificate that clients are shown is the one on disk, or it is drift."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep import redis as engine
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.plan import ApplyError
from dbkeep.ports import free_port
from dbkeep.redis.statements import directives
from dbkeep.sandbox.redis import TLS, installed_version, start
from dbkeep.settings import RedisSettings
from dbkeep.tls import Subject, new_authority, new_private_key, new_request, sign

from .conftest import password_file

MEMORY_BYTES = 80 * 1024 * 1024


def issue(folder: Path) -> None:
    """Make an authority and a certificate in `folder`, or another certificate of the same authority."""
    if not (folder / "ca.key").exists():
        (folder / "ca.key").write_text(new_private_key())
        (folder / "ca.crt").write_text(new_authority((folder / "ca.key").read_text(), "test"))
    key = new_private_key()
    subject = Subject(common_name="localhost", names=("localhost", "127.0.0.1"))
    certificate = sign(
        new_request(key, "localhost"),
        subject,
        private_key=(folder / "ca.key").read_text(),
        authority=(folder / "ca.crt").read_text(),
    )
    (folder / "redis.key").write_text(key)
    (folder / "redis.crt").write_text(certificate)
    for file in folder.iterdir():
        file.chmod(0o644)


@pytest.fixture
def files() -> Iterator[Path]:
    """A folder that the server's user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-redis-") as name:
        Path(name).chmod(0o755)
        issue(Path(name))
        yield Path(name)


def test_tls_verifies_and_nothing_else_is_spoken(files: Path, tmp_path: Path) -> None:
    port = free_port()
    tls = TLS(port, files / "redis.crt", files / "redis.key", files / "ca.crt")
    with start(tmp_path, {"state": {}}, tls={"state": tls}) as settings:
        password = password_file(settings.instances["state"]).read_text().strip()
        once: dict[str, Any] = {"host": "localhost", "port": port, "retry": Retry(NoBackoff(), 0)}
        secured: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(files / "ca.crt"), "ssl_check_hostname": True}
        with redis.Redis(username="admin", password=password, **once, **secured) as client:
            assert client.ping()
        with redis.Redis(username="admin", password=password, **once) as plain, pytest.raises(redis.ConnectionError):
            plain.ping()
        with redis.Redis(**once, **secured) as anonymous, pytest.raises(redis.AuthenticationError):
            anonymous.ping()


@pytest.fixture
def host(files: Path, tmp_path: Path, declared: engine.Declared) -> Iterator[RedisSettings]:
    """Both instances with TLS, and their settings as the role tells them to the agent."""
    host_settings = {
        name: {
            "bind": "127.0.0.1",
            "tls-port": str(free_port()),
            "tls-cert-file": str(files / "redis.crt"),
            "tls-key-file": str(files / "redis.key"),
            "tls-ca-cert-file": str(files / "ca.crt"),
        }
        for name in ("state", "cache")
    }
    version = installed_version()
    instances = {name: directives(declared, name, version, host_settings[name], MEMORY_BYTES) for name in host_settings}
    with start(tmp_path, instances, memory_bytes=MEMORY_BYTES) as started:
        yield with_host_settings(started, host_settings)


def with_host_settings(host: RedisSettings, settings: Mapping[str, Mapping[str, str]]) -> RedisSettings:
    """Return the settings whose instances have more directives of the host."""
    instances = {
        name: instance.model_copy(update={"host_settings": {**instance.host_settings, **settings.get(name, {})}})
        for name, instance in host.instances.items()
    }
    return host.model_copy(update={"instances": instances})


def test_a_renewed_certificate_is_drift_until_it_is_served(
    files: Path, host: RedisSettings, declared: engine.Declared, passwords: dict[str, str]
) -> None:
    engine.apply(host, declared, passwords)
    assert not engine.plan(host, declared, passwords)

    issue(files)
    plan = engine.plan(host, declared, passwords)
    assert [f"{change.kind} {change.target}" for change in plan] == ["certificate state", "certificate cache"]
    engine.apply(host, declared, passwords)
    assert not engine.plan(host, declared, passwords)
    port = int(host.instances["state"].host_settings["tls-port"])
    served = ssl.get_server_certificate(("127.0.0.1", port))
    assert served.split() == (files / "redis.crt").read_text().split()

    silent = with_host_settings(host, {"cache": {"tls-port": str(free_port())}})
    with pytest.raises(DbkeepError, match=r"no TLS on port \d+"):
        engine.plan(silent, declared, passwords)


def test_a_certificate_of_another_authority_is_one_line(
    host: RedisSettings, declared: engine.Declared, passwords: dict[str, str], tmp_path: Path
) -> None:
    stranger = tmp_path / "other.crt"
    stranger.write_text(new_authority(new_private_key(), "other"), encoding="ascii")
    mistaken = with_host_settings(host, {"state": {"tls-ca-cert-file": str(stranger)}})
    with pytest.raises(UsageError) as error:
        engine.plan(mistaken, declared, passwords)
    assert f"redis.crt: is not signed by {stranger}, so no client trusts it" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("tls-ciphers", "Failed to configure ciphers: TLSv9"),
        ("tls-ciphersuites", "Failed to configure ciphersuites: TLSv9"),
        ("tls-protocols", "Invalid tls-protocols specified."),
    ],
)
def test_what_tls_does_not_take_is_refused_with_its_line(
    setting: str, reason: str, host: RedisSettings, declared: engine.Declared, passwords: dict[str, str]
) -> None:
    """A server reads these only where it serves TLS, so the trial does."""
    settings = {**declared.instances.settings, setting: "TLSv9"}
    instances = declared.instances.model_copy(update={"settings": settings})
    with pytest.raises(ApplyError) as error:
        engine.apply(host, declared.model_copy(update={"instances": instances}), passwords)
    where = f"redis setting state {setting}: redis/instances.yml:{declared.lines['state'][setting]}: Redis "
    assert str(error.value).startswith(where)
    assert f"does not take it: {reason}" in str(error.value)
    assert "\n" not in str(error.value)
