"""What a proof takes for declared, and the arguments that it makes: pure, so that a server can disagree with them."""

from __future__ import annotations

from typing import Any

import pytest

from dbkeep.redis.declared import ACL, Declared, Grant, Instance, Instances, Keyspace, Keyspaces, User
from dbkeep.redis.prove import reach
from dbkeep.redis.prove.arguments import Slot, fill, words
from dbkeep.redis.prove.commands import Command
from dbkeep.redis.prove.reach import Target

SESSIONS = {
    "prefix": "sess:", "purpose": "sessions", "instance": "state", "types": ["string"], "owner": "svc",
    "ttl_seconds": {"minimum": 1, "maximum": 2}, "loss": "must_not_be_evicted",
}  # fmt: skip


def declared(*grants: dict[str, object]) -> Declared:
    made = tuple(Grant.model_validate({"instances": ["state"], **grant}) for grant in grants)
    return Declared(
        instances=Instances(settings={}, instances={"state": Instance(purpose="x", memory_share=0.1, settings={})}),
        keyspaces=Keyspaces(keyspaces=(Keyspace.model_validate(SESSIONS),)),
        acl=ACL(connection=("ping",), users={"svc": User(purpose="x", grants=made)}),
        libraries=(),
    )


def command(name: str, *needs: str, key: bool = True) -> Command:
    template = (name.upper(), Slot.KEY) if key else (name.upper(),)
    return Command(name, "string", frozenset(), frozenset(), template, frozenset(needs))


SESSION, OTHER, SERVER = Target("sess:*", "sess:1"), Target("other", "pres:1"), Target("(no key)")


@pytest.mark.parametrize(
    ("grant", "asked", "target", "allowed"),
    [
        ({"read": ["sess:*"], "commands": ["get", "set"]}, command("get", "r"), SESSION, True),
        ({"read": ["sess:*"], "commands": ["get", "set"]}, command("set", "w"), SESSION, False),
        ({"read": ["sess:*"], "commands": ["get"]}, command("get", "r"), OTHER, False),
        ({"read": ["sess:*"], "commands": ["exists"]}, command("exists", ""), SESSION, True),
        ({"read": ["sess:*"], "write": ["sess:*"], "commands": ["getdel"]}, command("getdel", "rw"), SESSION, False),
        ({"readwrite": ["sess:*"], "commands": ["getdel"]}, command("getdel", "rw"), SESSION, True),
        ({"readwrite": ["sess:*"], "commands": ["get"]}, command("set", "w"), SESSION, False),
        ({"commands": ["config"]}, command("config|get", key=False), SERVER, True),
        ({"commands": ["config|get"]}, command("config|set", key=False), SERVER, False),
        ({"commands": ["get"]}, command("ping", key=False), SERVER, True),
        ({"channels": ["conv:*"], "commands": ["publish"]}, command("publish", key=False), Target("c", "conv:1"), True),
        ({"channels": ["conv:*"], "commands": ["publish"]}, command("publish", key=False), Target("c", "ctl:1"), False),
        (
            {"channels": ["conv:*"], "commands": ["psubscribe"]}, command("psubscribe", key=False),
            Target("c", "conv:a*"), False,
        ),
    ],
)  # fmt: skip
def test_a_grant_allows(grant: dict[str, object], asked: Command, target: Target, *, allowed: bool) -> None:
    assert reach.allows(declared(grant), "svc", "state", asked, target) is allowed


def test_of_two_grants_each_stands_for_itself() -> None:
    two = declared(
        {"readwrite": ["sess:*"], "commands": ["get"]}, {"readwrite": ["pres:*"], "commands": ["get", "set"]}
    )
    assert not reach.allows(two, "svc", "state", command("set", "w"), SESSION)
    assert reach.allows(two, "svc", "state", command("set", "w"), OTHER)


def test_targets_name_what_stands_beside_a_prefix() -> None:
    names = [target.name for target in reach.targets(declared({"commands": ["get"]}), "state")]
    assert names == ["(no key)", "sess:*", "sess without :", "other keys", "other channels"]


def test_arguments_are_the_shortest_that_touch_every_key() -> None:
    key: dict[str, Any] = {"name": "key", "type": "key"}
    union: list[dict[str, Any]] = [
        {"name": "destination", "type": "key"}, {"name": "numkeys", "type": "integer"}, {**key, "flags": ["multiple"]},
        {"name": "weight", "type": "integer", "token": "WEIGHTS", "flags": ["optional", "multiple"]},
    ]  # fmt: skip
    made = words("zunionstore", union, 4, {})
    assert made == ("ZUNIONSTORE", Slot.KEY, "2", Slot.KEY, Slot.KEY)
    assert fill(made, ("a", "b"), "") == ["ZUNIONSTORE", "a", "2", "b", "a"]
    evaluated: list[dict[str, Any]] = [
        {"name": "script", "type": "string"}, {"name": "numkeys", "type": "integer"},
        {**key, "flags": ["optional", "multiple"]}, {"name": "arg", "type": "string", "flags": ["optional"]},
    ]  # fmt: skip
    assert words("eval", evaluated, 3, {}) == ("EVAL", "return 1", "2", Slot.KEY, Slot.KEY)
    assert words("debug", [], 2, {}) == ("DEBUG", "1")
    assert words("subscribe", [{"name": "channel", "type": "string"}], 2, {}) == ("SUBSCRIBE", Slot.CHANNEL)
