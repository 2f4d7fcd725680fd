"""Redis: what is declared, what is live, and the changes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import redis

from dbkeep import plan as plans
from dbkeep.errors import UsageError
from dbkeep.host import replace_file, restart
from dbkeep.plan import Change, Plan
from dbkeep.redis.connect import connect, errors_as_lines
from dbkeep.redis.declared import ADMIN, Declared
from dbkeep.redis.declared import read as read_declared
from dbkeep.redis.diff import diff
from dbkeep.redis.diff.settings import KINDS, Rejection
from dbkeep.redis.inspect import LiveInstance, count_keys, inspect
from dbkeep.redis.passwords import require_passwords, with_administrator
from dbkeep.redis.server import server as server_of
from dbkeep.redis.statements import ENGINE, Operation, Restart, WriteFile, directives
from dbkeep.redis.trial import reject
from dbkeep.settings import RedisSettings

__all__ = ["Declared", "apply", "counts", "plan", "read_declared", "users", "version"]


def users(declared: Declared) -> list[str]:
    """Return the users that need a password from the vault."""
    return list(declared.acl.users)


def plan(settings: RedisSettings, declared: Declared, secrets: Mapping[str, str]) -> Plan:
    """Return the changes that turn the host's instances into what is declared; reads only.

    `secrets` maps every name of `users(declared)` to its password, as the vault does (dbkeep.redis.passwords).

    Raises UsageError for a missing or weak password and for instances that host and declaration do not share,
    DbkeepError when an instance does not answer.
    """
    with _connected(settings, declared, secrets) as clients:
        return _plan(settings, declared, secrets, clients)


def apply(
    settings: RedisSettings,
    declared: Declared,
    secrets: Mapping[str, str],
    *,
    allow_destructive: bool = False,
    on_change: Callable[[Change], None] = lambda _: None,
) -> tuple[Change, ...]:
    """Run the plan and return the changes made. Raises what `plan` raises, and ApplyError."""
    with _connected(settings, declared, secrets) as clients:

        def execute(change: Change) -> None:
            operation: Operation = change.operation
            if isinstance(operation, WriteFile):
                replace_file(operation.path, operation.text)
            elif isinstance(operation, Restart):
                restart(operation.unit)
            else:
                with errors_as_lines(operation.instance, settings.instances[operation.instance]):
                    for command in operation.commands:
                        clients[operation.instance].execute_command(*command)  # type: ignore[no-untyped-call]

        return plans.apply(
            _plan(settings, declared, secrets, clients),
            execute,
            allow_destructive=allow_destructive,
            on_change=on_change,
        )


def version(settings: RedisSettings) -> str:
    """Return the server's version, such as 7.0.15 or Valkey 8.1.1, or each instance's where they differ.

    Raises DbkeepError without an answer.
    """
    versions = {}
    for name, instance in settings.instances.items():
        with connect(name, instance) as client:
            versions[name] = server_of(client.info("server")).short
    if len(set(versions.values())) == 1:
        return next(iter(versions.values()))
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def counts(settings: RedisSettings) -> dict[str, int]:
    """Return the number of keys by instance and prefix, such as {"state/sess:": 12}; keys that begin with no word count
    as "state/(no prefix)". Raises DbkeepError without an answer."""
    result = {}
    for name, instance in settings.instances.items():
        with connect(name, instance) as client:
            result.update({f"{name}/{prefix}": number for prefix, number in sorted(count_keys(client).items())})
    return result


@contextmanager
def _connected(
    settings: RedisSettings, declared: Declared, secrets: Mapping[str, str]
) -> Iterator[dict[str, redis.Redis]]:
    """Yield a connection to every instance, after checking that there is a password for every user."""
    if settings.instances.keys() != declared.instances.instances.keys():
        raise UsageError(
            f"redis: the host has the instances {', '.join(settings.instances)}, declared are "
            f"{', '.join(declared.instances.instances)}; run playbooks/site.yml"
        )
    require_passwords(declared, secrets)
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(connect(name, instance, secrets[ADMIN]))
            for name, instance in settings.instances.items()
        }


def _plan(
    settings: RedisSettings, declared: Declared, secrets: Mapping[str, str], clients: Mapping[str, redis.Redis]
) -> Plan:
    live = {}
    for name, instance in settings.instances.items():
        with errors_as_lines(name, instance):
            live[name] = inspect(clients[name], name, instance, settings.server)
    files = {instance.password_file for instance in settings.instances.values() if instance.password_file}
    stored = {path: path.read_text(encoding="utf-8").strip() for path in sorted(files)}
    passwords = with_administrator(secrets, stored)
    changes = diff(declared, live, settings, passwords, stored)
    rejections = _rejections(settings, declared, live, changes)
    if any(rejections.values()):
        changes = diff(declared, live, settings, passwords, stored, rejections=rejections)
    return Plan(ENGINE, tuple(changes))


def _rejections(
    settings: RedisSettings, declared: Declared, live: Mapping[str, LiveInstance], changes: list[Change]
) -> dict[str, Rejection | None]:
    """Ask, before the first change, what a server says of its settings; only where something of them is to change."""
    changing = {change.target.split()[0] for change in changes if change.kind in KINDS}
    rejections = {}
    for name, instance in settings.instances.items():
        if changing & {name, str(instance.config_file)}:
            wanted = directives(
                declared, name, live[name].version_numbers, instance.host_settings, settings.memory_bytes
            )
            rejections[name] = reject(settings, wanted)
    return rejections
