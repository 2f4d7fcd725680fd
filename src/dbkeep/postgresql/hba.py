"""Client authentication: pg_hba.conf and pg_ident.conf from the inventory and sql/roles.yml. One rendering, used by the
role and by the plan."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from dbkeep.postgresql.connect import MAINTENANCE
from dbkeep.postgresql.models import Declared
from dbkeep.settings import PostgreSQLAccess

HEADER = "# Written by dbkeep from the inventory and sql/roles.yml. What no line names is refused.\n"
SUPERUSER = "postgres"
MAP = "dbkeep"
# Users of the host's operating system that are the superuser on the socket: the agent, backups, administrators.
LOCAL_USERS = ("root", "postgres")


def files(declared: Declared, access: PostgreSQLAccess) -> dict[Path, str]:
    """Return the text of both files by path: the map first, or its users would be locked out until it is there."""
    return {access.ident_file: ident(), access.hba_file: hba(declared, access)}


def hba(declared: Declared, access: PostgreSQLAccess) -> str:
    """Return the text of pg_hba.conf: no trust, no clear text, no `all`, no replication and no superuser over TCP."""
    database = declared.scope.database
    login = sorted(name for name, role in declared.roles.items() if role.login)
    others = [address for address in access.api_addresses if address not in access.own_addresses]
    return "\n".join(
        (
            HEADER,
            "# Root and postgres of this host.",
            f"local {database},{MAINTENANCE},template1 {SUPERUSER} peer map={MAP}",
            *([f"local replication {SUPERUSER} peer map={MAP}"] if access.local_replication else []),
            "",
            "# This host: checks log on as every role; backups, reports and monitoring run here.",
            *_rules(database, login, access.own_addresses),
            "",
            "# The hosts of the chat API.",
            *_rules(database, access.api_roles, others),
            "",
        )
    )


def _rules(database: str, roles: Iterable[str], addresses: Iterable[str]) -> list[str]:
    names = ",".join(roles)
    return [
        f"hostssl {database} {names} {_network(address)} scram-sha-256" for address in dict.fromkeys(addresses) if names
    ]


def _network(address: str) -> str:
    """Return one address as a network of itself; a network and a host's name stay as they are."""
    try:
        return str(ipaddress.ip_network(address, strict=False))
    except ValueError:
        return address


def ident() -> str:
    """Return the text of pg_ident.conf: which user of this host may be the superuser on the socket."""
    return HEADER + "".join(f"{MAP} {user} {SUPERUSER}\n" for user in LOCAL_USERS)
