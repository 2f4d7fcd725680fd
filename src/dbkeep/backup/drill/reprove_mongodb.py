"""Attacks a copy of MongoDB as every user: rights and validators, re-proved on what a backup restores to."""

from __future__ import annotations

import ssl
from typing import Any

from dbkeep import mongodb
from dbkeep.backup.drill.claims import Claimed
from dbkeep.backup.drill.copy import Copy, attack, differs
from dbkeep.backup.drill.proof import Proof
from dbkeep.checks.access import agreed_tls
from dbkeep.mongodb.connect import Client, client, connect
from dbkeep.mongodb.prove.world import World


def reprove(copy: Copy, claimed: Claimed, proof: Proof) -> bool:
    """Compare the copy with the declared state, then attack it; return whether it is as declared.

    The users get passwords of the drill.
    """
    declared, passwords = claimed.declared, copy.serving.passwords
    with connect(copy.settings) as administrator:
        administrator.admin.command({"setParameter": 1, "ttlMonitorEnabled": True})  # compared is everything by now
        there = {user["user"] for user in administrator.admin.command("usersInfo")["users"]}
        for user in there & passwords.keys():
            administrator.admin.command("updateUser", user, pwd=passwords[user])
    if differs(mongodb.plan(copy.settings, declared, passwords), proof, strict=copy.serving.strict):
        return False

    def logged_on(user: str | None = None, **options: Any) -> Client:
        credentials: dict[str, Any] = {}
        if user is not None:
            credentials = {"username": user, "password": passwords[user], "authSource": "admin"}
            credentials |= {"authMechanism": "SCRAM-SHA-256"}
        return client(copy.settings, direct=True, **(credentials | options))

    def tls_version(at_most: ssl.TLSVersion) -> str | None:
        return agreed_tls(copy.settings.port, copy.serving.authority.file, at_most=at_most)

    with World(declared, logged_on, tls_version=tls_version) as world:
        attack("mongodb", world, claimed, proof)
    return True
