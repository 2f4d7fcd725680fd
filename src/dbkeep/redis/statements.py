"""The operations on a Redis server, their redacted display, and the one rendering of settings.

`directives` makes both what the configuration file says and what CONFIG GET must answer, so that the role, which
writes the file before the first start, and the plan agree by construction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dbkeep.errors import UsageError
from dbkeep.redis.acl import ACLUser
from dbkeep.redis.declared import ELSEWHERE, Declared, Setting

ENGINE = "redis"
MEBIBYTE = 1024 * 1024
HEADER = "# Written by dbkeep from redis/instances.yml: change that file, then run `dbkeep apply redis`.\n"
# Directives of several words; in a file every other value with a space is one quoted word.
SEVERAL_WORDS = frozenset({"bind", "client-output-buffer-limit", "oom-score-adj-values", "save"})
# CONFIG SET refuses these on every server that has them ("immutable config", "protected config" while
# enable-protected-configs is no), replicaof apart, which has a command of its own.
STATIC = frozenset(
    {
        *("aclfile", "always-show-logo", "appenddirname", "appendfilename", "aof_rewrite_cpulist", "bgsave_cpulist"),
        *(
            "bio_cpulist",
            "cluster-config-file",
            "cluster-enabled",
            "cluster-port",
            "daemonize",
            "databases",
            "dbfilename",
            "dir",
            "disable-thp",
        ),
        *("enable-debug-command", "enable-module-command", "enable-protected-configs", "io-threads"),
        *(
            "io-threads-do-reads",
            "logfile",
            "pidfile",
            "rdbchecksum",
            "rdma-completion-vector",
            "rdma-rx-size",
            "server_cpulist",
        ),
        *("set-proc-title", "socket-mark-id", "supervised", "syslog-enabled", "syslog-facility", "syslog-ident"),
        *("tcp-backlog", "unixsocket", "unixsocketgroup", "unixsocketperm"),
    }
)
_UNITS = {"b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands for one instance, run in order. Their arguments may hold a digest."""

    instance: str
    commands: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class WriteFile:
    """New text for a file that exists; it keeps its owner and mode."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart of an instance's service, for what only its start reads."""

    unit: str


Operation = Commands | WriteFile | Restart


def directives(
    declared: Declared, instance: str, version: tuple[int, ...], host_settings: Mapping[str, str], memory_bytes: int
) -> dict[str, str]:
    """Return every setting of `instance` on a server of `version`, by directive.

    `host_settings` are the host's own directives, `memory_bytes` the memory that the declared share is a share of
    (maxmemory is rounded down to whole mebibytes, at least one).

    Raises UsageError for a directive of the host that has its place elsewhere.
    """
    for name in sorted(ELSEWHERE.keys() & host_settings.keys()):
        raise UsageError(f"redis_settings: {instance}: {name}: {ELSEWHERE[name]}")
    own = declared.instances.instances[instance]
    settings: dict[str, Setting] = dict(declared.instances.settings)
    for since, later in declared.instances.since.items():
        if version >= tuple(map(int, since.split("."))):
            settings.update(later)
    settings.update(own.settings)
    maxmemory = max(int(memory_bytes * own.memory_share) // MEBIBYTE, 1) * MEBIBYTE
    return (
        {name: _text(value) for name, value in settings.items()} | {"maxmemory": str(maxmemory)} | dict(host_settings)
    )


def _text(value: Setting) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def configuration_file(settings: Mapping[str, str]) -> str:
    """Return the text of redis.conf for `settings`, in alphabetical order."""
    return HEADER + "".join(f"{name} {_word(name, settings[name])}\n" for name in sorted(settings))


def read_configuration(text: str) -> dict[str, str]:
    """Return the settings of a text that `configuration_file` made."""
    lines = (line.partition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value.strip('"') for name, _, value in lines}


def _word(name: str, value: str) -> str:
    if not value or (" " in value and name not in SEVERAL_WORDS):
        return f'"{value}"'
    return value


def canonical(value: str) -> str:
    """Return a setting's value as CONFIG GET spells it: sizes in bytes, no repeated blanks, today's words."""
    return " ".join(_canonical_word(word) for word in value.split())


def _canonical_word(word: str) -> str:
    size = re.fullmatch(r"(\d+)([kmg]?b|[kmg])", word.lower())
    if size:
        return str(int(size[1]) * _UNITS[size[2]])
    return "replica" if word == "slave" else word


def set_user(instance: str, user: ACLUser) -> Commands:
    """Return the commands that give `user` exactly its rights and save them; one SETUSER takes effect at once."""
    rules = ["reset", "on" if user.enabled else "off", *(f"#{digest}" for digest in sorted(user.passwords))]
    rules += [*sorted(user.keys), "resetchannels", *sorted(user.channels), "-@all"]
    rules += [f"+{command}" for command in sorted(user.commands)]
    rules += sorted(user.selectors)
    return Commands(instance, (("ACL", "SETUSER", user.name, *rules), ("ACL", "SAVE")))


def delete_user(instance: str, name: str) -> Commands:
    return Commands(instance, (("ACL", "DELUSER", name), ("ACL", "SAVE")))


def save_users(instance: str) -> Commands:
    return Commands(instance, (("ACL", "SAVE"),))


def set_setting(instance: str, name: str, value: str) -> Commands:
    if name == "replicaof":
        return Commands(instance, (("REPLICAOF", *(value.split() or ("NO", "ONE"))),))
    return Commands(instance, (("CONFIG", "SET", name, value),))


def load_certificate(instance: str, settings: Mapping[str, str]) -> Commands:
    """Return the command that makes the server read its certificate's files again: Redis does so for the same names."""
    files = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
    return Commands(instance, (("CONFIG", "SET", *(word for name in files for word in (name, settings[name]))),))


def load_library(instance: str, code: str) -> Commands:
    return Commands(instance, (("FUNCTION", "LOAD", "REPLACE", code),))


def delete_library(instance: str, name: str) -> Commands:
    return Commands(instance, (("FUNCTION", "DELETE", name),))


def shown(operation: Operation) -> str:
    """Return an operation as people may see it: digests masked, code and file text left out."""
    if isinstance(operation, WriteFile):
        return f"write {operation.path}"
    if isinstance(operation, Restart):
        return f"systemctl restart {operation.unit}"
    return "; ".join(" ".join(_shown_word(word) for word in command) for command in operation.commands)


def _shown_word(word: str) -> str:
    if word.startswith("#!"):
        return word.splitlines()[0] + " …"
    if word.startswith("#"):
        return "#…"
    return word if word and (" " not in word or word.startswith("(")) else f'"{word}"'
