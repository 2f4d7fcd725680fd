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
from dbkeep.redis.diff import settings as diff_settings
from dbkeep.redis.diff.settings import Rejection
from dbkeep.redis.inspect import LiveInstance
from dbkeep.redis.statements import ENGINE
from dbkeep.settings import RedisSettings


def diff(
    declared: Declared,
    live: Mapping[str, LiveInstance],
    host: RedisSettings,
    passwords: dict[str, str],
    stored_passwords: Mapping[Path, str],
    *,
    rejections: Mapping[str, Rejection | None] | None = None,
) -> list[Change]:
    """Return the changes that turn `live` into `declared`, instance by instance; restarts come after everything else.

    `passwords` is in clear, as the vault names them; `stored_passwords` is what the administrator's password files hold
    now. Those files come first: the servers still take the vault's, which is what a rerun logs on with then.
    `rejections` is what servers like these say of the settings, by instance.
    """
    changes: list[Change] = []
    restarts: list[Change] = []
    for path, password in stored_passwords.items():
        if password != passwords[ADMIN]:
            operation = statements.WriteFile(path, passwords[ADMIN] + "\n")
            summary = "does not hold a password that only this host knows"
            changes.append(_change("password file", str(path), summary, operation))
    for name, instance in live.items():
        settings, restart = diff_settings.diff(declared, name, instance, host, (rejections or {}).get(name))
        changes += settings
        restarts += restart
        changes += _certificate(name, host.instances[name].host_settings, instance)
        changes += _libraries(declared, name, instance)
        changes += _users(name, expected(declared, name, instance.version_numbers, passwords), instance)
    return changes + restarts


def _change(
    kind: str,
    target: str,
    summary: str,
    operation: statements.Operation,
    *,
    before: Any = None,
    after: Any = None,
    risk: Risk = Risk.SAFE,
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
    )


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
            f"differs in {', '.join(_unlike(live.saved_users, live.users))}: the next start would read that",
            statements.save_users(instance),
        )


def _unlike(saved: Mapping[str, ACLUser], users: Mapping[str, ACLUser]) -> list[str]:
    return sorted(name for name in saved.keys() | users.keys() if saved.get(name) != users.get(name))


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
