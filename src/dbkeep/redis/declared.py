"""Declared state of Redis: instances, keyspaces, ACL users and function libraries, read from `redis/`."""

from __future__ import annotations

import difflib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, StringConstraints

from dbkeep.declared import Model, line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError
from dbkeep.redis import defaults

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Command = Annotated[str, StringConstraints(pattern=r"^(@all|[a-z][a-z.]*(\|[a-z_-]+)?)$")]
Pattern = Annotated[str, StringConstraints(pattern=r"^[^\s()%~&]+$")]
Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9:_-]*:$")]
Directive = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]


def _setting(value: object) -> bool | int | str:
    if isinstance(value, bool | int) or (isinstance(value, str) and re.fullmatch(r'[^\r\n"]*', value)):
        return value
    raise ValueError("a setting is a number, true, false, or words in one line without quotes")


Setting = Annotated[bool | int | str, PlainValidator(_setting)]

ADMIN = "admin"
# Only the host knows these; the role gives them through the agent's settings.
HOST_DIRECTIVES = frozenset(
    {
        *("aclfile", "bind", "dir", "tls-ca-cert-file", "tls-cert-file", "tls-key-file", "tls-port"),
        *("tls-replication", "unixsocket"),
    }
)
# What has its own place, and why it is not a setting here.
ELSEWHERE = {
    "maxmemory": "comes from memory_share: declare that",
    **dict.fromkeys(("daemonize", "pidfile", "supervised"), "belongs to the systemd unit"),
    **dict.fromkeys(
        ("masterauth", "masteruser", "requirepass", "user"), "users stand in acl.yml, their passwords in the vault"
    ),
    "include": "the instance has one file, made from this one",
    "loadmodule": "no module is managed: its commands and its memory would be outside the declared state",
    "rename-command": "who may run a command stands in acl.yml; a renamed one is hidden, not forbidden",
    "replicaof": "belongs to the host",
}


class Loss(StrEnum):
    """What may happen to a key before its time."""

    MUST_SURVIVE_RESTART = "must_survive_restart"
    MUST_NOT_BE_EVICTED = "must_not_be_evicted"
    MAY_BE_LOST = "may_be_lost"


class Instance(Model):
    purpose: str
    memory_share: float = Field(gt=0, lt=1)
    functions: tuple[Name, ...] = ()
    settings: dict[Directive, Setting]


class Instances(Model):
    settings: dict[Directive, Setting]
    since: dict[Version, dict[Directive, Setting]] = Field(default_factory=dict)
    instances: dict[Name, Instance]


class TTL(Model):
    minimum: int = Field(gt=0)
    maximum: int = Field(gt=0)


class Keyspace(Model):
    prefix: Prefix
    purpose: str
    instance: Name
    types: tuple[Literal["string", "hash", "list", "set", "zset", "stream"], ...]
    ttl_seconds: TTL
    loss: Loss
    owner: Name


class Channel(Model):
    prefix: Prefix
    purpose: str
    instance: Name
    owner: Name


class Keyspaces(Model):
    keyspaces: tuple[Keyspace, ...]
    channels: tuple[Channel, ...] = ()


class LaterCommand(Model):
    """A command that servers before `since` do not know and would refuse to name."""

    command: Command
    since: Version


class Grant(Model):
    """What a user may do on some instances: key patterns by kind of access, channels, commands.

    Of several grants on one instance each stands for itself: its commands work on its keys and channels only.
    """

    instances: tuple[Name, ...]
    read: tuple[Pattern, ...] = ()
    write: tuple[Pattern, ...] = ()
    readwrite: tuple[Pattern, ...] = ()
    channels: tuple[Pattern, ...] = ()
    commands: tuple[Command, ...]


class User(Model):
    purpose: str
    grants: tuple[Grant, ...]


class ACL(Model):
    connection: tuple[Command | LaterCommand, ...] = ()
    users: dict[Name, User]


class Library(Model):
    name: Name
    code: str


class Declared(Model):
    """Everything the agent needs to plan and apply; round-trips through JSON.

    `lines` says where in instances.yml an instance's setting stands, for errors that only its server can raise.
    """

    instances: Instances
    keyspaces: Keyspaces
    acl: ACL
    libraries: tuple[Library, ...]
    lines: dict[Name, dict[Directive, int]] = Field(default_factory=dict)

    def grants(self, user: str, instance: str) -> tuple[Grant, ...]:
        """Return what `user` may do on `instance`; empty if the user does not exist there."""
        return tuple(grant for grant in self.acl.users[user].grants if instance in grant.instances)


def read(root: Path) -> Declared:
    """Return the declared state in `root`/redis, checked as a whole.

    Raises DeclaredError with file, line and key of the first thing that is wrong.
    """
    folder = root / "redis"
    declared = Declared(
        instances=read_model(folder / "instances.yml", Instances),
        keyspaces=read_model(folder / "keyspaces.yml", Keyspaces),
        acl=read_model(folder / "acl.yml", ACL),
        libraries=tuple(_read_library(path) for path in sorted((folder / "functions").glob("*.lua"))),
        lines=_setting_lines(folder / "instances.yml"),
    )
    _check_instances(declared, folder / "instances.yml")
    _check_users(declared, folder / "acl.yml")
    _check_keyspaces(declared, folder / "keyspaces.yml")
    _check_grants(declared, folder / "acl.yml")
    return declared


def _setting_lines(path: Path) -> dict[str, dict[str, int]]:
    """Return the line of every setting by instance; what an instance declares itself comes before what all share."""
    _, lines = read_yaml(path)
    names = [str(at[1]) for at in lines if len(at) == 2 and at[0] == "instances"]
    depth = {"settings": 2, "since": 3}
    shared = {str(at[-1]): line for at, line in lines.items() if at and len(at) == depth.get(str(at[0]))}
    own = {
        name: {str(at[3]): line for at, line in lines.items() if at[:3] == ("instances", name, "settings") and at[3:]}
        for name in names
    }
    return {name: shared | own[name] for name in names}


def _read_library(path: Path) -> Library:
    code = path.read_text(encoding="utf-8")
    named = re.match(r"#!lua name=(\w+)\n", code)
    if named is None or named[1] != path.stem:
        raise DeclaredError(f"the first line must be '#!lua name={path.stem}'", path=path, line=1)
    return Library(name=path.stem, code=code)


def _fail(path: Path, message: str, *location: str | int) -> DeclaredError:
    _, lines = read_yaml(path)
    return DeclaredError(message, path=path, line=line_of(lines, location), key=".".join(map(str, location)))


def _check_instances(declared: Declared, path: Path) -> None:
    libraries = {library.name for library in declared.libraries}
    scopes: list[tuple[tuple[str, ...], dict[str, Setting]]] = [(("settings",), declared.instances.settings)]
    scopes += [(("since", version), settings) for version, settings in declared.instances.since.items()]
    for name, instance in declared.instances.instances.items():
        scopes.append((("instances", name, "settings"), instance.settings))
        for index, function in enumerate(instance.functions):
            if function not in libraries:
                raise _fail(path, f"functions/{function}.lua does not exist", "instances", name, "functions", index)
    for location, settings in scopes:
        for directive in settings:
            _check_directive(directive, path, location)
    if sum(instance.memory_share for instance in declared.instances.instances.values()) >= 1:
        raise _fail(path, "the instances' memory_share add up to the whole host or more", "instances")


def _check_directive(directive: str, path: Path, location: tuple[str, ...]) -> None:
    """Refuse what has its place elsewhere, what no server knows, and what one knows and another does not."""
    if directive in HOST_DIRECTIVES:
        raise _fail(path, "belongs to the host: set it through the role redis", *location, directive)
    if directive in ELSEWHERE:
        raise _fail(path, ELSEWHERE[directive], *location, directive)
    if directive not in defaults.names():
        similar = difflib.get_close_matches(directive, defaults.names(), 1)
        meant = f"; is {similar[0]} meant?" if similar else ""
        raise _fail(path, f"no supported server has such a setting{meant}", *location, directive)
    unknown = defaults.unknown_to(directive) if location[0] != "since" else []
    if unknown:
        raise _fail(path, f"{' and '.join(unknown)} has no such setting: move it below since", *location, directive)


def _check_keyspaces(declared: Declared, path: Path) -> None:
    prefixes: set[str] = set()
    for index, keyspace in enumerate(declared.keyspaces.keyspaces):
        here = ("keyspaces", index)
        if keyspace.prefix in prefixes:
            raise _fail(path, f"the prefix {keyspace.prefix} stands twice", *here, "prefix")
        prefixes.add(keyspace.prefix)
        if keyspace.instance not in declared.instances.instances:
            raise _fail(path, f"instances.yml declares no instance {keyspace.instance}", *here, "instance")
        if keyspace.owner not in declared.acl.users:
            raise _fail(path, f"acl.yml declares no user {keyspace.owner}", *here, "owner")
        if keyspace.ttl_seconds.minimum > keyspace.ttl_seconds.maximum:
            raise _fail(path, "minimum is more than maximum", *here, "ttl_seconds")
        settings = {**declared.instances.settings, **declared.instances.instances[keyspace.instance].settings}
        if keyspace.loss is not Loss.MAY_BE_LOST and settings.get("maxmemory-policy") != "noeviction":
            raise _fail(path, f"instance {keyspace.instance} evicts keys: its policy is not noeviction", *here, "loss")
        if keyspace.loss is Loss.MUST_SURVIVE_RESTART and settings.get("appendonly") not in (True, "yes"):
            raise _fail(path, f"instance {keyspace.instance} writes no append-only file", *here, "loss")
    for index, channel in enumerate(declared.keyspaces.channels):
        if channel.instance not in declared.instances.instances:
            raise _fail(path, f"instances.yml declares no instance {channel.instance}", "channels", index, "instance")
        if channel.owner not in declared.acl.users:
            raise _fail(path, f"acl.yml declares no user {channel.owner}", "channels", index, "owner")


def _check_users(declared: Declared, path: Path) -> None:
    if ADMIN not in declared.acl.users:
        raise _fail(path, f"the user {ADMIN} is missing: the agent works as {ADMIN}", "users")
    if "default" in declared.acl.users:
        raise _fail(path, "the user default is always off and cannot be declared", "users", "default")
    for name, user in declared.acl.users.items():
        for index, grant in enumerate(user.grants):
            for instance in grant.instances:
                if instance not in declared.instances.instances:
                    here = ("users", name, "grants", index, "instances")
                    raise _fail(path, f"instances.yml declares no instance {instance}", *here)
    for instance in declared.instances.instances:
        if not declared.grants(ADMIN, instance):
            raise _fail(path, f"has no grant on the instance {instance}", "users", ADMIN, "grants")


def _check_grants(declared: Declared, path: Path) -> None:
    for name, user in declared.acl.users.items():
        for index, grant in enumerate(user.grants):
            if name != ADMIN:
                _check_grant(declared, grant, path, ("users", name, "grants", index))


def _check_grant(declared: Declared, grant: Grant, path: Path, here: tuple[str | int, ...]) -> None:
    """Refuse `@all` and patterns outside the declared prefixes: only admin holds those."""
    if "@all" in grant.commands:
        raise _fail(path, f"only {ADMIN} may hold @all: list the commands", *here, "commands")
    keyspaces = declared.keyspaces
    for instance in grant.instances:
        keys = tuple(k.prefix for k in keyspaces.keyspaces if k.instance == instance)
        channels = tuple(c.prefix for c in keyspaces.channels if c.instance == instance)
        patterns = [(field, getattr(grant, field), keys) for field in ("read", "write", "readwrite")]
        for field, values, prefixes in [*patterns, ("channels", grant.channels, channels)]:
            for index, value in enumerate(values):
                if not value.startswith(prefixes):
                    raise _fail(path, f"{value} is outside the prefixes of {instance}", *here, field, index)
