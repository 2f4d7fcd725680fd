"""Attacks a copy of Redis as every user.

Users are declared and no part of a backup: they are applied to the copy, as they are to a restored instance, and must
then hold over the keys that the backup brought.
"""

from __future__ import annotations

from typing import Any

import redis as driver

from dbkeep import redis
from dbkeep.backup.drill.claims import Claimed
from dbkeep.backup.drill.copy import Copy, attack
from dbkeep.backup.drill.proof import Proof
from dbkeep.backup.drill.redis import FROM_DUMP
from dbkeep.checks.access import redis_client
from dbkeep.redis.declared import Declared
from dbkeep.redis.prove.live import plant, remove
from dbkeep.redis.prove.seed import Seed
from dbkeep.redis.prove.world import World


def reprove(copy: Copy, claimed: Claimed, proof: Proof) -> bool:
    """Make users and functions of the copy as declared, then attack it; return whether that could be done."""
    passwords, authority = copy.serving.passwords, copy.serving.authority.file
    ports = {name.removeprefix("redis_"): port for name, port in copy.ports.items()}
    redis.apply(copy.settings, _without_append_only_file(claimed.declared), passwords)

    def open_session(instance: str, user: str | None, **options: Any) -> driver.Redis:
        password = None if user is None else passwords[user]
        return redis_client(ports[instance], authority, user, password, **options)

    with World(claimed.declared, Seed(), open_session, ports=ports, authority=authority, passwords=passwords) as world:
        plant(world)
        attack("redis", world, claimed, proof)
        remove(world)
    return True


def _without_append_only_file(declared: Declared) -> Declared:
    """A copy writes nothing: its append-only file would be as large as the data, and is worth nothing."""
    instances = {
        name: instance.model_copy(update={"settings": {**instance.settings, **FROM_DUMP}})
        for name, instance in declared.instances.instances.items()
    }
    return declared.model_copy(update={"instances": declared.instances.model_copy(update={"instances": instances})})
