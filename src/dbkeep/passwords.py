"""New passwords for the services that use Redis, while they run: a user of Redis may have two.

The vault says how far a rotation is (dbkeep.redis.passwords): the next password is let in, then it takes the place of
the one that the services get, then the previous one is refused. Each step can be repeated, so a rotation that was
killed anywhere is finished by the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbkeep.commands.plan import engine_hosts, engine_request
from dbkeep.engines import declared_state
from dbkeep.environment import Environment, Host, checkout
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.keys import changing, deploy
from dbkeep.redis.declared import ADMIN, Declared
from dbkeep.redis.passwords import NEXT, PREVIOUS
from dbkeep.remote import call
from dbkeep.secrets import VARIABLE, new_password
from dbkeep.vault import read_vault, write_vault

ENGINE = "redis"

Show = Callable[[str], None]
Secrets = dict[str, str]


def _silent(_line: str) -> None: ...


def begun(secrets: Mapping[str, str], users: Sequence[str]) -> Secrets:
    """Return `secrets` with a next password for each of `users`."""
    return {**secrets, **{user + NEXT: new_password() for user in users}}


def handed_out(secrets: Mapping[str, str]) -> Secrets:
    """Return `secrets` with every next password in the place of the user's own, which becomes the previous one."""
    result = {name: value for name, value in secrets.items() if not name.endswith(NEXT)}
    for user in _users_with(secrets, NEXT):
        result |= {user: secrets[user + NEXT], user + PREVIOUS: secrets[user]}
    return result


def finished(secrets: Mapping[str, str]) -> Secrets:
    """Return `secrets` without the previous passwords."""
    return {name: value for name, value in secrets.items() if not name.endswith(PREVIOUS)}


def _users_with(secrets: Mapping[str, str], ending: str) -> list[str]:
    return [name.removesuffix(ending) for name in secrets if name.endswith(ending)]


def status(environment: Environment) -> dict[str, Any]:
    """Return how many passwords let each service's user in, by instance, and which `second` one a rotation left.

    `complete` says whether each has one password everywhere. Raises UsageError or DbkeepError like `plan`.
    """
    secrets = _stored(environment)
    instances: dict[str, Any] = call(_host(environment), ["facts", ENGINE])["instances"]
    rows: list[dict[str, Any]] = []
    for user in _rotatable(environment):
        users = {name: instance["users"].get(user) for name, instance in instances.items()}
        found = {name: facts["passwords"] for name, facts in users.items() if facts}
        rows.append({"user": user, "second": _second(secrets, user), "passwords": found})
    complete = all(row["second"] is None and set(row["passwords"].values()) == {1} for row in rows)
    return {"environment": environment.name, "engine": ENGINE, "users": rows, "complete": complete}


def _second(secrets: Mapping[str, str], user: str) -> str | None:
    return next((ending.strip("_") for ending in (NEXT, PREVIOUS) if user + ending in secrets), None)


def rotate(
    environment: Environment, users: Sequence[str] = (), *, on_step: Show = _silent, on_task: Show = _silent
) -> dict[str, Any]:
    """Give each of `users` (all services' without any) a new password; what an interrupted rotation left is finished.

    Nobody is refused meanwhile: both passwords are let in while the services change over. `on_step` gets what is done
    now, `on_task` the tasks of a playbook. Returns whose passwords are new. Raises UsageError for a user that has none
    to rotate, DbkeepError when Redis is not as declared, which a rotation would change along the way.
    """
    wanted = list(users) or _rotatable(environment)
    _require_rotatable(environment, wanted)
    with changing(environment):
        secrets = _stored(environment)
        changed = sorted({*_users_with(secrets, NEXT), *_users_with(secrets, PREVIOUS)})
        resumed = bool(changed)
        if not resumed:
            _require_converged(environment, secrets)
            secrets, changed = begun(secrets, wanted), sorted(set(wanted))
            _store(environment, secrets)
        if _users_with(secrets, NEXT):
            on_step("let the new passwords in beside the old")
            _apply(environment, secrets)
            secrets = handed_out(secrets)
            _store(environment, secrets)
        on_step("give the new passwords to the services")
        deploy(environment, on_task)
        on_step("refuse the old passwords")
        # First, so that nothing that reads the vault meanwhile lets them in again.
        secrets = finished(secrets)
        _store(environment, secrets)
        _apply(environment, secrets)
        return {"environment": environment.name, "engine": ENGINE, "rotated": changed, "resumed": resumed}


def _rotatable(environment: Environment) -> list[str]:
    declared = declared_state(ENGINE, checkout(), environment.variables)
    assert isinstance(declared, Declared)  # noqa: S101 - the name decides the type
    return [user for user in declared.acl.users if user != ADMIN]


def _require_rotatable(environment: Environment, users: Sequence[str]) -> None:
    known = _rotatable(environment)
    for user in users:
        if user == ADMIN:
            raise UsageError(f"the password of {ADMIN} is made on the host of Redis and is in no vault")
        if user not in known:
            raise UsageError(f"redis/acl.yml declares no user {user}; it declares {', '.join(known)}")


def _require_converged(environment: Environment, secrets: Secrets) -> None:
    changes = _call(environment, "plan", secrets)["changes"]
    if changes:
        raise DbkeepError(
            f"redis is not as declared ({len(changes)} changes, first {changes[0]['kind']} {changes[0]['target']}): "
            f"run `dbkeep apply redis -e {environment.name}`, then this again"
        )


def _apply(environment: Environment, secrets: Secrets) -> None:
    _call(environment, "apply", secrets)


def _call(environment: Environment, verb: str, secrets: Secrets) -> dict[str, Any]:
    now = dataclasses.replace(environment, secrets={**environment.secrets, ENGINE: secrets})
    return call(_host(environment), [verb, ENGINE], engine_request(now, ENGINE))


def _host(environment: Environment) -> Host:
    (_, host), *_ = engine_hosts(environment, (ENGINE,))
    return host


def _stored(environment: Environment) -> Secrets:
    found = read_vault(environment.path).get(ENGINE)
    if not found:
        name = environment.name
        where = f"inventory/{name}: {VARIABLE}.{ENGINE}"
        raise UsageError(f"{where} is missing: `dbkeep init {name}`, then playbooks/site.yml")
    return dict(found)


def _store(environment: Environment, secrets: Secrets) -> None:
    write_vault(environment.path, {**read_vault(environment.path), ENGINE: secrets})
