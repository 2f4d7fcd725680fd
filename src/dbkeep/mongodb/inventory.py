"""What the inventory says of MongoDB: the hosts of the group mongodb are the members of the replica set."""

from __future__ import annotations

from dbkeep.environment import Environment, Host


def member(host: Host) -> str:
    """Return a host as the replica set names it ("host:port"), as the role mongodb does."""
    variables = host.variables
    address = str(variables.get("mongodb_address", variables.get("dbkeep_address", host.address)))
    return f"{f'[{address}]' if ':' in address else address}:{variables['mongodb_port']}"


def members(environment: Environment) -> tuple[str, ...]:
    """Return the members of the environment's replica set, in the order of the inventory."""
    return tuple(member(host) for host in environment.hosts("mongodb"))
