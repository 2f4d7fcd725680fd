"""The hosts of the inventory as the members of a replica set, and what follows for the servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dbkeep import mongodb as engine
from dbkeep.environment import Environment, Host
from dbkeep.mongodb import inventory
from dbkeep.mongodb.models import ALLOWED_MEMBERS

ROOT = Path(__file__).parents[3]


def host(name: str, group: str = "mongodb", **variables: Any) -> Host:
    address = str(variables.get("ansible_host", name))
    return Host(name, address, "ops", 22, None, (), frozenset({group}), {"mongodb_port": 27017, **variables})


@pytest.mark.parametrize(
    ("variables", "member"),
    [
        ({}, "messages1:27017"),
        ({"ansible_host": "192.0.2.11"}, "192.0.2.11:27017"),
        ({"ansible_host": "192.0.2.11", "dbkeep_address": "10.0.0.1"}, "10.0.0.1:27017"),
        ({"ansible_host": "192.0.2.11", "mongodb_address": "10.0.0.2", "mongodb_port": 27018}, "10.0.0.2:27018"),
        ({"ansible_host": "2001:db8::1"}, "[2001:db8::1]:27017"),
    ],
    ids=["name", "address", "private address", "address of the role", "IPv6"],
)
def test_a_host_is_named_as_the_other_members_reach_it(variables: dict[str, Any], member: str) -> None:
    assert inventory.member(host("messages1", **variables)) == member


def test_the_group_is_the_set_in_the_order_of_the_inventory() -> None:
    hosts = (host("m2"), host("api", "chat_api"), host("m1"))
    assert inventory.members(Environment("e", Path(), hosts, {}, {})) == ("m2:27017", "m1:27017")


@pytest.mark.parametrize(
    ("members", "allowed"),
    [
        (("192.0.2.1:27017", "[2001:db8::1]:27017"), ("127.0.0.1", "192.0.2.1", "2001:db8::1")),
        (("192.0.2.1:27017", "messages2:27017"), None),
        ((), None),
    ],
    ids=["addresses", "a server takes no names", "no member declared"],
)
def test_the_members_account_is_let_in_from_the_members(
    members: tuple[str, ...], allowed: tuple[str, ...] | None
) -> None:
    declared = engine.read_declared(ROOT).model_copy(update={"members": members})
    found = {parameter.name: parameter.value for parameter in declared.parameters}
    assert found.pop(ALLOWED_MEMBERS, None) == allowed
    assert found == {parameter.name: parameter.value for parameter in declared.server.parameters}
