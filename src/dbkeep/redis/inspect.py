"""What one instance holds now, as plain values, in one or two round trips."""

from __future__ import annotations

import hashlib
import ssl
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.acl import ACLUser, categories_in, parse_file
from dbkeep.redis.sample import shown_prefix
from dbkeep.settings import RedisInstance

HANDSHAKE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class LiveInstance:
    """One instance. `saved_users` and `configuration_text` are what the next start reads, `installed_certificate` and
    `served_certificate` are SHA-256 fingerprints; each is None when the agent is not told where to look."""

    version: str
    users: dict[str, ACLUser]
    settings: dict[str, str]
    libraries: dict[str, str]
    saved_users: dict[str, ACLUser] | None = None
    configuration_text: str | None = None
    installed_certificate: str | None = None
    served_certificate: str | None = None

    @property
    def version_numbers(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))


def inspect(client: redis.Redis, instance: RedisInstance) -> LiveInstance:
    """Return the live state of `instance`.

    Raises UsageError when a file is unreadable, DbkeepError when the TLS port does not answer, and redis.RedisError.
    """
    with client.pipeline(transaction=False) as pipeline:
        pipeline.info("server")
        pipeline.acl_list()
        pipeline.config_get("*")
        pipeline.execute_command("FUNCTION LIST", "WITHCODE")  # type: ignore[no-untyped-call]
        server, users, settings, libraries = pipeline.execute()
    saved_text = None if instance.acl_file is None else _text(instance.acl_file)
    categories = _categories(client, categories_in([*users, *(saved_text or "").splitlines()]))
    return LiveInstance(
        version=server["redis_version"],
        users=parse_file("\n".join(users), categories),
        settings=settings,
        libraries=dict(library(reply) for reply in libraries),
        saved_users=None if saved_text is None else parse_file(saved_text, categories),
        configuration_text=None if instance.config_file is None else _text(instance.config_file),
        installed_certificate=_installed_certificate(instance),
        served_certificate=_served_certificate(instance),
    )


def _categories(client: redis.Redis, names: set[str]) -> dict[str, list[str]]:
    """Return the commands of each category; one that the server does not know (an ACL file may name it) is left out."""
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.acl_cat(name)
        replies = pipeline.execute(raise_on_error=False)
    return {name: reply for name, reply in zip(names, replies, strict=True) if isinstance(reply, list)}


def library(reply: list[Any]) -> tuple[str, str]:
    """Return name and code of one library as FUNCTION LIST WITHCODE answers."""
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    return fields["library_name"], fields["library_code"]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; run as root, or run playbooks/site.yml") from None


def _installed_certificate(instance: RedisInstance) -> str | None:
    file = instance.host_settings.get("tls-cert-file")
    return None if file is None else _fingerprint(_text(Path(file)))


def _served_certificate(instance: RedisInstance) -> str | None:
    """Return the fingerprint of what a client is shown: a server keeps the certificate that it loaded."""
    port = instance.host_settings.get("tls-port")
    if port is None:
        return None
    try:
        return _fingerprint(ssl.get_server_certificate(("127.0.0.1", int(port)), timeout=HANDSHAKE_SECONDS))
    except OSError as error:
        raise DbkeepError(f"redis {instance.socket}: no TLS on port {port}: {error}; see its journal") from None


def _fingerprint(certificates: str) -> str:
    first = certificates.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


def count_keys(client: redis.Redis) -> dict[str, int]:
    """Return the number of keys by the word that they begin with, in bounded steps."""
    return Counter(shown_prefix(key) for key in client.scan_iter(count=1000))
