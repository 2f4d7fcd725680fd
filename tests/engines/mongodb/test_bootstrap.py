"""A replica set and its administrator out of bare servers, without the localhost exception and without a password."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from pymongo.errors import OperationFailure

from dbkeep.errors import UsageError
from dbkeep.mongodb import bootstrap
from dbkeep.mongodb.connect import address, client
from dbkeep.sandbox import mongodb as sandbox
from dbkeep.settings import MongoDBSettings

UNAUTHORIZED = 13


def test_one_server_and_then_a_new_one_before_it(folder: Path, security: sandbox.Security) -> None:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(sandbox.start(folder / name, security=security, initiate=False, cache_gb=0.25))
            for name in ("first", "second")
        )
        alone, both = [address(first)], [address(second), address(first)]

        assert [change.kind for change in bootstrap.plan(first, alone)] == ["replica set", "administrator"]
        _anonymous_is_refused(first)
        made = bootstrap.apply(first, alone, security.keyfile)
        assert [change.target for change in made] == ["chat", "CN=mongodb-admin,OU=administrators"]
        assert list(bootstrap.plan(first, alone)) == []
        assert bootstrap.apply(first, alone, security.keyfile) == ()
        _anonymous_is_refused(first)

        # From a new server's point of view: it finds the set that is there and makes none of its own.
        assert list(bootstrap.plan(second, both)) == []
        with client(second, direct=True) as new:
            assert not new.admin.command("hello").get("setName")


def _anonymous_is_refused(settings: MongoDBSettings) -> None:
    with client(settings, direct=True) as anonymous:
        for database, command in (
            ("admin", {"createUser": "intruder", "pwd": "x", "roles": ["root"]}),
            ("$external", {"createUser": "CN=intruder", "roles": [{"role": "root", "db": "admin"}]}),
            ("admin", {"replSetInitiate": {"_id": "chat", "members": [{"_id": 0, "host": address(settings)}]}}),
        ):
            with pytest.raises(OperationFailure) as refusal:
                anonymous[database].command(command)
            assert refusal.value.code == UNAUTHORIZED


def test_a_certificate_that_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.pem: no certificate can be read from it: .*; run playbooks/site"):
        bootstrap.subject(folder / "missing.pem")
