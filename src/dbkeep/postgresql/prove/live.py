"""A live server of an environment as a world: real roles over TLS, and people who are removed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chat_api.context import Signer
from dbkeep import postgresql
from dbkeep.checks.access import Access
from dbkeep.environment import Environment
from dbkeep.errors import UsageError
from dbkeep.postgresql import context_keys
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.prove.seed import Seed
from dbkeep.postgresql.prove.world import World
from dbkeep.remote import call


@contextmanager
def live(environment: Environment, declared: Declared) -> Iterator[World]:
    """Yield the environment's database with the people of a new seed in it, who are removed at the end.

    The agent on the database host writes and removes them: no role that logs on could.
    Raises UsageError when the environment has no PostgreSQL host, lacks a password, or its host cannot be reached.
    """
    hosts = environment.hosts("postgresql")
    if not hosts:
        raise UsageError(f"environment {environment.name} has no host in group postgresql")
    host, seed = hosts[0], Seed()
    for entry in (*postgresql.users(declared), context_keys.ENTRY):
        if entry not in environment.secrets.get("postgresql", {}):
            raise UsageError(f"environment {environment.name} has no secret for {entry}: run `dbkeep init`")

    signer = Signer(context_keys.keys(environment.secrets["postgresql"][context_keys.ENTRY]))
    with Access(environment) as access:

        def keywords(role: str) -> dict[str, Any]:
            return access.postgresql_keywords(host, role)

        call(host, ["people", "add"], {"mark": seed.mark})
        try:
            with World(declared, seed, declared.scope.database, keywords, signer=signer) as world:
                yield world
        finally:
            call(host, ["people", "remove"], {})
