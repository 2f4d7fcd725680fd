"""Environments: Ansible's own listing becomes hosts, variables and secrets."""

from pathlib import Path

import pytest

from dbkeep.environment import _environment, read_environment
from dbkeep.errors import UsageError
from dbkeep.remote import ssh_command

LISTING = {
    "_meta": {
        "hostvars": {
            "a": {
                "ansible_host": "198.18.0.11",
                "ansible_user": "ops",
                "ansible_ssh_private_key_file": "/keys/k",
                "ansible_ssh_common_args": "-o UserKnownHostsFile=/keys/known",
                "dbkeep_secrets": {"redis": {"admin": "x"}},
                "postgresql_port": 5432,
            },
            "b": {},
        }
    },
    "all": {"children": ["engines"]},
    "engines": {"children": ["postgresql", "redis"]},
    "postgresql": {"hosts": ["a"]},
    "redis": {"hosts": ["a", "b"]},
}


def test_hosts_know_their_groups_and_how_to_be_reached() -> None:
    environment = _environment("lab", Path("inventory/lab"), LISTING)
    assert [h.name for h in environment.hosts("redis")] == ["a", "b"]
    assert [h.name for h in environment.hosts("engines")] == ["a", "b"]
    assert [h.name for h in environment.hosts("postgresql")] == ["a"]
    command = ssh_command(environment.hosts("postgresql")[0])
    assert command[-1] == "ops@198.18.0.11"
    assert "UserKnownHostsFile=/keys/known" in command
    assert "/keys/k" in command


def test_the_first_host_of_a_group_is_the_first_one_named_in_it() -> None:
    environment = _environment("lab", Path("inventory/lab"), LISTING | {"redis": {"hosts": ["b", "a"]}})
    assert [h.name for h in environment.hosts("redis")] == ["b", "a"]
    assert [h.name for h in environment.all_hosts] == ["a", "b"]


def test_secrets_are_apart_from_variables_and_not_shown() -> None:
    environment = _environment("lab", Path("inventory/lab"), LISTING)
    assert environment.secrets == {"redis": {"admin": "x"}}
    assert "dbkeep_secrets" not in environment.variables
    assert "'x'" not in repr(environment)


def test_an_inventory_without_hosts_is_refused() -> None:
    with pytest.raises(UsageError, match="names no host"):
        _environment("lab", Path("inventory/lab"), {"_meta": {"hostvars": {}}})


def test_a_missing_environment_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"inventory/nowhere does not exist.*dbkeep init nowhere"):
        read_environment("nowhere", root=tmp_path)
