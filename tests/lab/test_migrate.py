"""`dbkeep migrate` over SSH: what a real host has applied, and what its migrations would run."""

from __future__ import annotations

from dbkeep.environment import checkout
from dbkeep.postgresql import read_declared

from .conftest import UpLab, dbkeep


def test_a_provisioned_host_has_every_migration(lab: UpLab) -> None:
    declared = [migration.id for migration in read_declared(checkout()).migrations]
    status = dbkeep("migrate", "status", "-e", lab.name, "--json")
    assert status.status == 0, status.err
    assert [(entry["id"], entry["state"]) for entry in status.json["migrations"]] == [
        (name, "applied") for name in declared
    ]
    pending = dbkeep("migrate", "sql", "-e", lab.name, "--json")
    assert (pending.status, pending.json) == (0, {"migrations": []})
