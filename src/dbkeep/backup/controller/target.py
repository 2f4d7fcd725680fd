"""The host that a restore goes to when it is not the one that holds the engines, and how data of these gets there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dbkeep.backup.controller.sets import Placed, Show, placed
from dbkeep.backup.settings import LOCAL, off_host_store
from dbkeep.backup.stores.declared import declared_stores
from dbkeep.environment import ASIDE, Environment, Host
from dbkeep.errors import UsageError
from dbkeep.remote import transfer


def find_host(environment: Environment, name: str) -> Host | None:
    """Return the host of the inventory with that name, or None."""
    return next((host for host in environment.all_hosts if host.name == name), None)


def onto(environment: Environment, host: Host, engines: Sequence[str] = ()) -> Placed:
    """Return `host` with the engines to restore there: those named, or all of the environment.

    Raises UsageError when it holds live data of the environment, or has not every one of the engines.
    """
    sources = placed(environment, engines)
    if host in sources:
        raise UsageError(
            f"--target {host.name}: it is the host that holds {', '.join(sources[host])}; without --target it is "
            "restored in place"
        )
    if not host.is_aside:
        there = ", ".join(other.name for other in environment.all_hosts if other.is_aside) or "none yet"
        raise UsageError(
            f"--target {host.name}: it is in none of the groups {', '.join(sorted(ASIDE))}, so what it logs goes into "
            f"the stores of the environment; hosts in these groups: {there}"
        )
    wanted = [name for names in sources.values() for name in names]
    lacking = [name for name in wanted if name not in host.groups]
    if lacking:
        raise UsageError(
            f"--target {host.name}: it has no {', '.join(lacking)}: put it into that group and run playbooks/site.yml, "
            "or name the engines to restore with --engine"
        )
    return {host: wanted}


def names_of(sources: Placed) -> str:
    """Return the hosts that hold the engines, for messages and records."""
    return ", ".join(host.name for host in sources)


def default_source(environment: Environment) -> str:
    """Return the store that another host restores from: the first off the hosts, `local` when none is declared."""
    return off_host_store(declared_stores(environment.variables.get("backup_stores") or ()))


def bring(
    sources: Placed, host: Host, request: Mapping[str, Any], *, records_only: bool = False, on_progress: Show
) -> None:
    """Have every source host send to `host` what of its own repository brings its engines to the request's target.

    Raises UsageError when a source does not answer: then only a store has its sets.
    """
    for number, (source, engines) in enumerate(sources.items()):
        if not records_only:
            on_progress(f"{', '.join(engines)}: sending what is needed from {source.name} to {host.name}")
        asked = {key: request[key] for key in ("set_id", "point", "to")}
        asked |= {"engines": engines, "records_only": records_only, "store": LOCAL}
        words = ["backup", "receive", *(["--more"] if number else [])]
        try:
            transfer(source, ["backup", "send"], asked, host, words, on_progress=on_progress)
        except UsageError as error:
            raise UsageError(f"{error}; a host that is gone is restored from a store: --store NAME") from None
