"""Attacks a copy of PostgreSQL as every role: row security and rights, re-proved on what a backup restores to."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from chat_api.context import Signer
from dbkeep import postgresql
from dbkeep.backup.drill.claims import Claimed
from dbkeep.backup.drill.copy import Copy, attack, differs
from dbkeep.backup.drill.proof import Proof
from dbkeep.ports import LOOPBACK
from dbkeep.postgresql import context_keys
from dbkeep.postgresql.connect import Connection, connect
from dbkeep.postgresql.prove.seed import Seed
from dbkeep.postgresql.prove.world import World
from dbkeep.postgresql.scram import verifier


def reprove(copy: Copy, claimed: Claimed, proof: Proof) -> bool:
    """Compare the copy with the declared state, then attack it; return whether it is as declared.

    The people of the prover live in it until it ends. The roles get passwords of the drill, and the context a key.
    """
    declared, passwords = claimed.declared, copy.serving.passwords
    if differs(postgresql.plan(copy.settings, declared, {}), proof, strict=copy.serving.strict):
        return False
    seed, key = Seed(), copy.serving.context_key
    with connect(copy.settings) as connection:
        _set_secrets(connection, passwords, key)
        seed.insert(connection)

    def keywords(role: str) -> dict[str, Any]:
        encrypted = {"sslmode": "verify-full", "sslrootcert": str(copy.serving.authority.file)}
        reached = {"host": "localhost", "hostaddr": LOOPBACK, "port": copy.ports["postgresql"], **encrypted}
        return {**reached, "user": role, "password": passwords[role]}

    signer = Signer(context_keys.keys(key))
    with World(declared, seed, declared.scope.database, keywords, signer=signer) as world:
        attack("postgresql", world, claimed, proof)
    return True


def _set_secrets(connection: Connection, passwords: dict[str, str], key: str) -> None:
    for role, password in passwords.items():
        alter = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier(password)))
        connection.execute(alter)
    for identifier in context_keys.read(connection):
        context_keys.run(connection, context_keys.WriteKey(identifier, None))
    for identifier, value in context_keys.keys(key).keys.items():
        context_keys.run(connection, context_keys.WriteKey(identifier, context_keys.pads(value)))
