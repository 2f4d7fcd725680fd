"""One rendering serves the configuration file and the plan; what people see holds no digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbkeep.errors import UsageError
from dbkeep.redis import read_declared
from dbkeep.redis.acl import ACLUser
from dbkeep.redis.statements import canonical, configuration_file, directives, load_library, set_user, shown

ROOT = Path(__file__).parents[3]
GIBIBYTE = 1024**3


@pytest.mark.parametrize(
    ("spelled", "answered"),
    [
        ("32mb", "33554432"),
        ("1k", "1000"),
        ("1GB", "1073741824"),
        ("20%", "20%"),
        ("replica 256mb 64mb 60", "slave 268435456 67108864 60"),
        ("normal 0 0 0  pubsub 32mb 8mb 60", "normal 0 0 0 pubsub 33554432 8388608 60"),
        ("", ""),
    ],
)
def test_what_config_get_answers_equals_what_was_declared(spelled: str, answered: str) -> None:
    assert canonical(spelled) == canonical(answered)


def test_different_values_stay_different() -> None:
    assert canonical("32mb") != canonical("32m")
    assert canonical("yes") != canonical("no")


def test_words_are_quoted_where_redis_takes_one() -> None:
    text = configuration_file(
        {"save": "3600 1 300 100", "tls-protocols": "TLSv1.2 TLSv1.3", "logfile": "", "port": "0"}
    )
    assert text.splitlines()[1:] == [
        'logfile ""',
        "port 0",
        "save 3600 1 300 100",
        'tls-protocols "TLSv1.2 TLSv1.3"',
    ]


def test_memory_is_the_declared_share_in_whole_mebibytes() -> None:
    declared = read_declared(ROOT)
    settings = directives(declared, "state", (7, 0, 15), {"tls-port": "6379"}, GIBIBYTE)
    assert settings["maxmemory"] == str(102 * 1024**2)
    assert settings["tls-port"] == "6379"
    assert settings["maxmemory-policy"] == "noeviction"
    assert directives(declared, "cache", (7, 0, 15), {}, GIBIBYTE)["maxmemory-policy"] == "allkeys-lfu"


def test_a_setting_is_left_out_for_servers_before_it() -> None:
    declared = read_declared(ROOT)
    assert "hide-user-data-from-log" not in directives(declared, "state", (7, 0, 15), {}, GIBIBYTE)
    assert directives(declared, "state", (8, 0, 2), {}, GIBIBYTE)["hide-user-data-from-log"] == "yes"


@pytest.mark.parametrize("name", ["requirepass", "maxmemory", "loadmodule", "rename-command"])
def test_what_has_its_place_elsewhere_is_no_setting_of_an_environment_either(name: str) -> None:
    with pytest.raises(UsageError, match=f"^redis_settings: state: {name}: "):
        directives(read_declared(ROOT), "state", (7, 0, 15), {name: "x"}, GIBIBYTE)


def test_digests_and_code_are_not_shown() -> None:
    user = ACLUser("x", enabled=True, passwords=frozenset({"a" * 64}), keys=frozenset({"~k:*"}))
    assert shown(set_user("state", user)) == "ACL SETUSER x reset on #… ~k:* resetchannels -@all; ACL SAVE"
    assert shown(load_library("state", "#!lua name=y\nsecret")) == "FUNCTION LOAD REPLACE #!lua name=y …"
