"""The pure difference between declared and live Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dbkeep.plan import Change, Risk
from dbkeep.redis import statements
from dbkeep.redis.acl import ACLUser, expected
from dbkeep.redis.declared import ADMIN, Declared
from dbkeep.redis.inspect import LiveInstance
from dbkeep.settings import RedisSettings

ENGINE = "redis"
RESTART = "needs a restart, which is not allowed: run playbooks/site.yml with -e redis_restart=true"


def diff(
    declared: Declared,
    live: Mapping[str, LiveInstance],
    host: RedisSettings,
    passwords: dict[str, str],
    stored_passwords: Mapping[Path, str],
) -> list[Change]:
    """Return the changes that turn `live` into `declared`, instance by instance.

    `passwords` is in clear, as the vault names them; `stored_passwords` is what the administrator's password files hold
    now. Those files come first: the servers still take the vault's, which is what a rerun logs on with then.
    """
    changes: list[Change] = []
    for path, password in stored_passwords.items():
        if password != passwords[ADMIN]:
            operation = statements.WriteFile(path, passwords[ADMIN] + "\n")
            summary = "does not hold a password that only this host knows"
            changes.append(_change("password file", str(path), summary, operation))
    for name, instance in live.items():
        settings = statements.directives(
            declared, name, instance.version_numbers, host.instances[name].host_settings, host.memory_bytes
        )
        changes += _settings(name, settings, instance)
        changes += _configuration_file(host.instances[name].config_file, settings, instance)
        changes += _restart(name, settings, instance, host)
        changes += _certificate(name, settings, instance)
        changes += _libraries(declared, name, instance)
        changes += _users(name, expected(declared, name, instance.version_numbers, passwords), instance)
    return changes


def _change(
    kind: str,
    target: str,
    summary: str,
    operation: statements.Operation,
    *,
    before: Any = None,
    after: Any = None,
    risk: Risk = Risk.SAFE,
    refused: str | None = None,
) -> Change:
    return Change(
        ENGINE,
        kind,
        target,
        summary,
        statements.shown(operation),
        operation,
        before=before,
        after=after,
        risk=risk,
        refused=refused,
    )


def _settings(instance: str, settings: Mapping[str, str], live: LiveInstance) -> Iterator[Change]:
    unknown = f"Redis {live.version} has no such setting: move it below `since` in redis/instances.yml"
    for name in _different(settings, live):
        if name not in statements.STATIC:
            yield _change(
                "setting",
                f"{instance} {name}",
                f'is "{live.settings.get(name)}", declared "{settings[name]}"',
                statements.set_setting(instance, name, settings[name]),
                before=live.settings.get(name),
                after=settings[name],
                risk=_risk(name, statements.canonical(settings[name]), live),
                refused=None if name in live.settings else unknown,
            )


def _different(settings: Mapping[str, str], live: LiveInstance) -> list[str]:
    """Return the settings that the server does not hold as declared, in alphabetical order."""
    return [
        name
        for name, value in sorted(settings.items())
        if name not in live.settings or statements.canonical(live.settings[name]) != statements.canonical(value)
    ]


def _restart(instance: str, settings: Mapping[str, str], live: LiveInstance, host: RedisSettings) -> Iterator[Change]:
    """Yield one restart for all settings that only a start reads; the configuration file is right by then."""
    names = [name for name in _different(settings, live) if name in statements.STATIC]
    unit = host.instances[instance].unit
    if names:
        yield _change(
            "restart",
            instance,
            "; ".join(f'{name} is "{live.settings.get(name)}", declared "{settings[name]}"' for name in names),
            statements.Restart(unit or f"the server of {instance}"),
            before={name: live.settings.get(name) for name in names},
            after={name: settings[name] for name in names},
            risk=Risk.LOCKING,
            refused=None if unit and host.restart_allowed else RESTART,
        )


def _risk(name: str, wanted: str, live: LiveInstance) -> Risk:
    """Return DESTRUCTIVE for what makes a running server drop keys or stop keeping them on disk."""
    evicts = live.settings.get("maxmemory-policy") != "noeviction"
    shrinks = name == "maxmemory" and evicts and int(wanted) > 0 and not 0 < int(live.settings[name]) <= int(wanted)
    starts_evicting = name == "maxmemory-policy" and wanted != "noeviction" and not evicts
    stops_writing = name == "appendonly" and wanted == "no"
    if shrinks or starts_evicting or stops_writing:
        return Risk.DESTRUCTIVE
    return Risk.REWRITING if name == "appendonly" else Risk.SAFE


def _configuration_file(path: Path | None, settings: Mapping[str, str], live: LiveInstance) -> Iterator[Change]:
    text = statements.configuration_file(settings)
    if path is not None and live.configuration_text != text:
        summary = "does not hold the declared settings, so a restart would lose them"
        yield _change("configuration file", str(path), summary, statements.WriteFile(path, text))


def _certificate(instance: str, settings: Mapping[str, str], live: LiveInstance) -> Iterator[Change]:
    if live.served_certificate != live.installed_certificate:
        yield _change(
            "certificate",
            instance,
            f"is served from memory, {settings['tls-cert-file']} holds another",
            statements.load_certificate(instance, settings),
            before=live.served_certificate,
            after=live.installed_certificate,
        )


def _libraries(declared: Declared, instance: str, live: LiveInstance) -> Iterator[Change]:
    wanted = {
        library.name: library.code
        for library in declared.libraries
        if library.name in declared.instances.instances[instance].functions
    }
    for name, code in sorted(wanted.items()):
        before = live.libraries.get(name)
        if before != code:
            yield _change(
                "function library",
                f"{instance} {name}",
                "is missing" if before is None else "has other code",
                statements.load_library(instance, code),
                before=_digest(before),
                after=_digest(code),
            )
    for name in sorted(live.libraries.keys() - wanted.keys()):
        yield _change(
            "function library",
            f"{instance} {name}",
            "is not declared",
            statements.delete_library(instance, name),
            before=_digest(live.libraries[name]),
            risk=Risk.DESTRUCTIVE,
        )


def _digest(code: str | None) -> str | None:
    return None if code is None else "sha256:" + hashlib.sha256(code.encode()).hexdigest()


def _users(instance: str, wanted: list[ACLUser], live: LiveInstance) -> Iterator[Change]:
    changed = False
    for user in wanted:
        before = live.users.get(user.name)
        if before != user:
            changed = True
            yield _change(
                "acl user",
                f"{instance} {user.name}",
                "is missing" if before is None else _differences(before, user),
                statements.set_user(instance, user),
                before=before and before.shown(),
                after=user.shown(),
            )
    for name in sorted(live.users.keys() - {user.name for user in wanted}):
        changed = True
        yield _change(
            "acl user",
            f"{instance} {name}",
            "is not declared",
            statements.delete_user(instance, name),
            before=live.users[name].shown(),
            risk=Risk.DESTRUCTIVE,
        )
    if not changed and live.saved_users is not None and live.saved_users != live.users:
        yield _change(
            "acl file",
            instance,
            "does not hold the users in memory, so a restart would lose them",
            statements.save_users(instance),
        )


def _differences(before: ACLUser, after: ACLUser) -> str:
    parts = []
    if before.enabled != after.enabled:
        parts.append("is on" if before.enabled else "is off")
    if before.nopass and not after.nopass:
        parts.append("needs no password")
    if before.passwords != after.passwords and not before.nopass:
        parts.append("password differs")
    if before.skips_sanitizing:
        parts.append("skips payload checks")
    for field in ("keys", "channels", "commands", "selectors"):
        extra, missing = getattr(before, field) - getattr(after, field), getattr(after, field) - getattr(before, field)
        if extra:
            parts.append(f"{field} too many: {' '.join(sorted(extra))}")
        if missing:
            parts.append(f"{field} missing: {' '.join(sorted(missing))}")
    return "; ".join(parts)
