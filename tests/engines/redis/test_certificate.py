"""The certificate that clients are shown is the one on disk, or it is drift."""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep import redis as engine
from dbkeep.errors import DbkeepError
from dbkeep.redis.statements import directives
from dbkeep.sandbox.redis import TLS, installed_version, start
from dbkeep.settings import RedisSettings
from dbkeep.tls import Subject, new_authority, new_private_key, new_request, sign

MEMORY_BYTES = 80 * 1024 * 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        password = settings.instances["state"].password_file.read_text().strip()
        once = {"host": "localhost", "port": port, "retry": Retry(NoBackoff(), 0)}
        secured = {"ssl": True, "ssl_ca_certs": str(files / "ca.crt"), "ssl_check_hostname": True}
        with redis.Redis(username="admin", password=password, **once, **secured) as client:
            assert client.ping()
        with redis.Redis(username="admin", password=password, **once) as plain, pytest.raises(redis.ConnectionError):
            plain.ping()
        with redis.Redis(**once, **secured) as anonymous, pytest.raises(redis.AuthenticationError):
            anonymous.ping()


def test_a_renewed_certificate_is_drift_until_it_is_served(
    files: Path, tmp_path: Path, declared: engine.Declared, passwords: dict[str, str]
) -> None:
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
        known = {
            name: instance.model_copy(update={"host_settings": host_settings[name]})
            for name, instance in started.instances.items()
        }
        host = RedisSettings(instances=known, memory_bytes=MEMORY_BYTES)
        engine.apply(host, declared, passwords)
        assert not engine.plan(host, declared, passwords)

        issue(files)
        plan = engine.plan(host, declared, passwords)
        assert [f"{change.kind} {change.target}" for change in plan] == ["certificate state", "certificate cache"]
        engine.apply(host, declared, passwords)
        assert not engine.plan(host, declared, passwords)
        served = ssl.get_server_certificate(("127.0.0.1", int(host_settings["state"]["tls-port"])))
        assert served.split() == (files / "redis.crt").read_text().split()

        silent = known["cache"].model_copy(
            update={"host_settings": {**host_settings["cache"], "tls-port": str(free_port())}}
        )
        with pytest.raises(DbkeepError, match=r"no TLS on port \d+"):
            engine.plan(host.model_copy(update={"instances": {**known, "cache": silent}}), declared, passwords)
