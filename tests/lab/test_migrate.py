"""`dbkeep migrate` over SSH: what a real host has applied, and what its migrations would run."""

from __future__ import annotations

import pytest

from dbkeep import mongodb, postgresql
from dbkeep.environment import checkout

from .conftest import UpLab, dbkeep

DECLARED = {
    "postgresql": [migration.id for migration in postgresql.read_declared(checkout()).migrations],
    "mongodb": [migration.id for migration in mongodb.read_declared(checkout()).migrations],
}


@pytest.mark.parametrize("engine", DECLARED)
def test_a_provisioned_host_has_every_migration(lab: UpLab, engine: str) -> None:
    status = dbkeep("migrate", "status", "-e", lab.name, "--engine", engine, "--json")
    assert status.status == 0, status.err
    assert [(entry["id"], entry["state"]) for entry in status.json["migrations"]] == [
        (name, "applied") for name in DECLARED[engine]
    ]


def test_a_provisioned_host_has_no_sql_to_review(lab: UpLab) -> None:
    pending = dbkeep("migrate", "sql", "-e", lab.name, "--json")
    assert (pending.status, pending.json) == (0, {"migrations": []})
