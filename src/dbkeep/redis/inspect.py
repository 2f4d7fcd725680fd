"""What one instance holds now, as plain values, in one or two round trips."""

from __future__ import annotations

import hashlib
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.acl import ACLUser, categories_in, parse_file
from dbkeep.redis.sample import NO_PREFIX
from dbkeep.redis.server import Server, require_supported
from dbkeep.redis.server import server as server_of
from dbkeep.settings import RedisInstance, RedisServer
from dbkeep.tls import is_signed_by

HANDSHAKE_SECONDS = 5
COUNT_BATCH = 1000
# Names stay in the server: sending and reading a million of them takes longer than saving them. As `shown_prefix` says.
COUNT = """
local reply, found, answer = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2]), {}, {}
for _, name in ipairs(reply[2]) do
  local word = string.match(name, '^[a-z][a-z_%-]*:')
  if not word or #word > 17 then word = ARGV[3] end
  found[word] = (found[word] or 0) + 1
end
answer[1] = reply[1]
for word, number in pairs(found) do
  answer[#answer + 1] = word
  answer[#answer + 1] = tostring(number)
end
return answer
"""


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
    server: RedisServer = "redis"
    modules: tuple[str, ...] = ()
    used_memory: int = 0
    clients: int = 0
    keys: int = 0

    @property
    def version_numbers(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))

    @property
    def identity(self) -> Server:
        return Server(self.server, self.version_numbers)


def inspect(client: redis.Redis, name: str, instance: RedisInstance, server: RedisServer = "redis") -> LiveInstance:
    """Return the live state of the instance `name`.

    Raises UsageError when it is not a supported version of `server`, a file is unreadable or the certificate is not its
    authority's, DbkeepError when the TLS port does not answer, and redis.RedisError.
    """
    with client.pipeline(transaction=False) as pipeline:
        for section in ("server", "memory", "clients", "keyspace"):
            pipeline.info(section)
        pipeline.acl_list()
        pipeline.config_get("*")
        pipeline.module_list()
        pipeline.execute_command("FUNCTION LIST", "WITHCODE")  # type: ignore[no-untyped-call]
        replies = pipeline.execute(raise_on_error=False)
    # A server that is too old does not know every command, so it is asked first what it is.
    _raise_first_error(replies[:1])
    found = server_of(replies[0])
    require_supported(found, name, server)
    _raise_first_error(replies)
    _, memory, clients, keyspace, users, settings, modules, libraries = replies
    saved_text = None if instance.acl_file is None else _text(instance.acl_file)
    categories = _categories(client, categories_in([*users, *(saved_text or "").splitlines()]))
    return LiveInstance(
        version=".".join(map(str, found.version)),
        users=parse_file("\n".join(users), categories),
        settings=settings,
        libraries=dict(library(reply) for reply in libraries),
        saved_users=None if saved_text is None else parse_file(saved_text, categories),
        configuration_text=None if instance.config_file is None else _text(instance.config_file),
        installed_certificate=_installed_certificate(instance),
        served_certificate=_served_certificate(instance),
        server=found.name,
        # A module without a path is part of the server itself (Redis 8: vectorset).
        modules=tuple(f"{module['name']} ({module['path']})" for module in modules if module.get("path")),
        # What CONFIG SET maxmemory compares with: buffers of replicas and of the append-only file do not count.
        used_memory=memory["used_memory"] - memory["mem_not_counted_for_evict"],
        clients=clients["connected_clients"],
        keys=sum(database["keys"] for database in keyspace.values()),
    )


def _raise_first_error(replies: list[Any]) -> None:
    for reply in replies:
        if isinstance(reply, redis.RedisError):
            raise reply


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
    file, authority = (instance.host_settings.get(name) for name in ("tls-cert-file", "tls-ca-cert-file"))
    if file is None:
        return None
    certificate = _text(Path(file))
    try:
        trusted = authority is None or is_signed_by(certificate, _text(Path(authority)))
    except ValueError:
        trusted = False
    if not trusted:
        raise UsageError(f"{file}: is not signed by {authority}, so no client trusts it; run playbooks/site.yml")
    return _fingerprint(certificate)


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
    found: Counter[str] = Counter()
    for step, _ in _steps(client):
        found += step
    return found


def sample_keys(client: redis.Redis, enough: int) -> tuple[dict[str, int], bool]:
    """Do as `count_keys` does until there are `enough` keys; also return whether these are all."""
    found: Counter[str] = Counter()
    for step, last in _steps(client):
        found += step
        if found.total() >= enough:
            return found, last
    return found, True


def _steps(client: redis.Redis) -> Iterator[tuple[Counter[str], bool]]:
    cursor, last = "0", False
    while not last:
        cursor, *words = cast(list[str], client.eval_ro(COUNT, 0, cursor, COUNT_BATCH, NO_PREFIX))
        last = cursor == "0"
        yield Counter({word: int(number) for word, number in zip(words[::2], words[1::2], strict=True)}), last
