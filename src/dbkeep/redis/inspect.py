"""What one instance holds now, as plain values, in one or two round trips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from dbkeep.errors import UsageError
from dbkeep.redis.acl import ACLUser, categories_in, parse_file
from dbkeep.settings import RedisInstance


@dataclass(frozen=True, slots=True)
class LiveInstance:
    """`saved_users` and `configuration_text` are what the next start reads; None when the agent is not told where."""

    version: str
    users: dict[str, ACLUser]
    settings: dict[str, str]
    libraries: dict[str, str]
    saved_users: dict[str, ACLUser] | None = None
    configuration_text: str | None = None

    @property
    def version_numbers(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))


def inspect(client: redis.Redis, instance: RedisInstance) -> LiveInstance:
    """Return the live state of `instance`.

    Raises UsageError when the ACL or configuration file is unreadable, and redis.RedisError.
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
        libraries=dict(_library(reply) for reply in libraries),
        saved_users=None if saved_text is None else parse_file(saved_text, categories),
        configuration_text=None if instance.config_file is None else _text(instance.config_file),
    )


def _categories(client: redis.Redis, names: set[str]) -> dict[str, list[str]]:
    """Return the commands of each category; one that the server does not know (an ACL file may name it) is left out."""
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.acl_cat(name)
        replies = pipeline.execute(raise_on_error=False)
    return {name: reply for name, reply in zip(names, replies, strict=True) if isinstance(reply, list)}


def _library(reply: list[Any]) -> tuple[str, str]:
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    return fields["library_name"], fields["library_code"]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; run as root, or run playbooks/site.yml") from None


def count_keys(client: redis.Redis) -> dict[str, int]:
    """Return the number of keys by prefix (the name up to and with its first colon), in bounded steps."""
    counts: dict[str, int] = {}
    for key in client.scan_iter(count=1000):
        head, colon, _ = key.partition(":")
        prefix = head + colon if colon else ""
        counts[prefix] = counts.get(prefix, 0) + 1
    return counts
