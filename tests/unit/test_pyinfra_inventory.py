"""An environment's hosts as pyinfra takes them."""

from pathlib import Path

from dbkeep.environment import Environment, Host
from dbkeep.pyinfra_inventory import pyinfra_groups

OPTIONS = ("-o", "UserKnownHostsFile=/keys/known_hosts", "-o", "IdentitiesOnly=yes")


def test_every_host_is_in_its_groups_with_its_way_in_and_no_secret() -> None:
    database = Host(
        "db1",
        "198.18.255.1",
        "ops",
        2222,
        Path("/keys/ssh"),
        OPTIONS,
        frozenset({"postgresql"}),
        {"dbkeep_secrets": "x"},
    )
    api = Host("api1", "198.18.255.2", "ops", 22, None, (), frozenset({"chat_api"}), {})
    groups = pyinfra_groups(Environment("test", Path("inventory/test"), (database, api), {}, {"redis": {"admin": "x"}}))
    assert groups == {
        "all": [*groups["postgresql"], *groups["chat_api"]],
        "postgresql": [
            (
                "db1",
                {
                    "ssh_hostname": "198.18.255.1",
                    "ssh_port": 2222,
                    "ssh_user": "ops",
                    "ssh_key": "/keys/ssh",
                    "ssh_allow_agent": False,
                    "ssh_look_for_keys": False,
                    "ssh_known_hosts_file": "/keys/known_hosts",
                    "ssh_strict_host_key_checking": "yes",
                },
            )
        ],
        "chat_api": [("api1", {"ssh_hostname": "198.18.255.2", "ssh_port": 22, "ssh_user": "ops"})],
    }
