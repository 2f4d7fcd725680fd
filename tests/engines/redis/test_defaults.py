"""The tables of settings are what real servers answer, and CONFIG SET refuses exactly the static ones."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import redis

from dbkeep.redis.connect import connect
from dbkeep.redis.declared import HOST_DIRECTIVES
from dbkeep.redis.defaults import defaults, is_alias
from dbkeep.redis.server import server
from dbkeep.redis.statements import STATIC
from dbkeep.sandbox.redis import Program, start

from .conftest import SERVERS

# What the sandbox sets, beside what the host gives.
SET_BY_SANDBOX = {"port", "save", "unixsocketperm"}
# The unit's command line sets these on a host.
OF_THE_UNIT = {"pidfile", "supervised"}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_without_settings_is_as_its_table_says(
    name: str, programs: dict[str, Program], tmp_path: Path
) -> None:
    with (
        start(tmp_path, program=programs[name]) as settings,
        connect("state", settings.instances["state"]) as client,
    ):
        table = defaults(server(client.info("server")))
        answer = cast("dict[str, str]", client.config_get("*"))
        live = {key: value for key, value in answer.items() if not is_alias(key)}
        assert table.keys() == live.keys() - HOST_DIRECTIVES - OF_THE_UNIT
        differs = {key: (table[key], live[key]) for key in table.keys() - SET_BY_SANDBOX if table[key] != live[key]}
        assert differs == {}
        refused = {}
        for key in table.keys() - {"replicaof", "rdma-bind"}:
            try:
                client.config_set(key, live[key])
            except redis.ResponseError as error:
                refused[key] = str(error)
        assert refused.keys() == STATIC & table.keys()
        assert all("immutable" in why or "protected" in why for why in refused.values())


@pytest.mark.parametrize("name", SERVERS)
def test_a_second_name_of_a_setting_is_no_setting_of_its_own(
    name: str, programs: dict[str, Program], tmp_path: Path
) -> None:
    """What is left out as a second name changes together with the first one."""
    with (
        start(tmp_path, program=programs[name]) as settings,
        connect("state", settings.instances["state"]) as client,
    ):
        first = {"replica-priority": "7", "hash-max-listpack-value": "7", "busy-reply-threshold": "7"}
        first |= {"masterauth": "seven", "slowlog-log-slower-than": "7", "slowlog-max-len": "7"}
        before = cast("dict[str, str]", client.config_get("*"))
        client.config_set(*first.popitem())
        for key, value in first.items():
            client.config_set(key, value)
        after = cast("dict[str, str]", client.config_get("*"))
        changed = {key for key in after if after[key] != before[key]} - first.keys()
        assert {key for key in changed if not is_alias(key)} <= {"slowlog-max-len"}
        assert {"slave-priority", "hash-max-ziplist-value", "lua-time-limit"} <= changed
