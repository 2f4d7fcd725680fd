"""What the inventory says of MongoDB: the hosts of the group mongodb are the members of the replica set."""

from __future__ import annotations

from dbkeep.environment import Environment, Host


def member(host: Host) -> str:
    """Return a host as the replica set names it ("host:port"), as the role mongodb does."""
    variables = host.variables
    address = str(variables.get("mongodb_address", variables.get("dbkeep_address", host.address)))
    return f"{f'[{address}]' if ':' in address else address}:{variables['mongodb_port']}"


def members(environment: Environment, on: Host | None = None) -> tuple[str, ...]:
    """Return the members of the environment's replica set, in the order of the inventory, or of the one `on` a host.

    A host that stands aside has a replica set of its own.
    """
    return (member(on),) if on and on.is_aside else tuple(member(host) for host in environment.hosts("mongodb"))
