"""The keys of encrypted fields: which versions there are, a new one for every value, old ones out of the hosts.

The vault holds them as the API reads them (chat_api.key_ring). The order of a rotation keeps every value readable: the
new key goes to every host while nobody writes with it, then it becomes the one to write with, then what older ones
wrote is encrypted again. Each step can be repeated, so a rotation that was killed anywhere is finished by the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chat_api.key_ring import KeyRing
from dbkeep.backup.controller.sets import list_sets
from dbkeep.environment import Environment, Host, checkout
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.lab.paths import locked
from dbkeep.playbook import run_playbook
from dbkeep.remote import call
from dbkeep.secrets import VARIABLE, new_password
from dbkeep.vault import read_vault, write_vault

FIELD, INDEX = "field_key", "blind_index_key"
KINDS = {FIELD: "field", INDEX: "blind-index"}
RETIRED = "_retired"
ROLE = "app_keys"

Show = Callable[[str], None]


def _silent(_line: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Rings:
    """The keys of an environment by kind: `live` ones are on the API's hosts, `retired` ones in the vault only."""

    live: dict[str, KeyRing]
    retired: dict[str, KeyRing]
    password: str

    def all_keys(self, kind: str) -> KeyRing:
        """Return live and retired keys in one ring, which reads every value there ever was."""
        retired = self.retired[kind].keys if kind in self.retired else {}
        return KeyRing({**retired, **self.live[kind].keys}, self.live[kind].pending)

    @property
    def is_pending(self) -> bool:
        return any(ring.pending for ring in self.live.values())


def read_rings(environment: Environment) -> Rings:
    """Return the keys in the vault of `environment`; raises UsageError naming what is missing or no key."""
    vault = read_vault(environment.path)
    stored: dict[str, str] = vault.get("chat_api") or {}
    live = {kind: _ring(stored, kind, environment) for kind in KINDS}
    retired = {kind: _ring(stored, kind + RETIRED, environment) for kind in KINDS if kind + RETIRED in stored}
    password = (vault.get("postgresql") or {}).get(ROLE)
    if not password:
        name = environment.name
        raise UsageError(
            f"inventory/{name}: {VARIABLE}.postgresql.{ROLE} is missing: `dbkeep init {name}`, then playbooks/site.yml"
        )
    return Rings(live, retired, password)


def _ring(stored: dict[str, str], name: str, environment: Environment) -> KeyRing:
    try:
        return KeyRing.parse(stored.get(name) or "")
    except ValueError as error:
        raise UsageError(f"inventory/{environment.name}: {VARIABLE}.chat_api.{name}: {error}") from None


def write_rings(environment: Environment, rings: Rings) -> None:
    """Put the keys into the vault, all of them or none; every other secret stays."""
    vault = read_vault(environment.path)
    texts = {kind: ring.text for kind, ring in rings.live.items()}
    texts |= {kind + RETIRED: ring.text for kind, ring in rings.retired.items()}
    write_vault(environment.path, {**vault, "chat_api": {**vault["chat_api"], **texts}})


@contextmanager
def changing(environment: Environment) -> Iterator[None]:
    """Hold the secrets of `environment`: one command of this checkout at a time may change them."""
    busy = f"another dbkeep command changes the secrets of {environment.name}; wait for it or stop it"
    with locked(environment.path / ".keys.lock", busy):
        yield


def survey(environment: Environment, rings: Rings) -> dict[str, Any]:
    """Count the values by the version of their key, and the indexes where there is more than one index key."""
    return call(_api_host(environment), ["keys", "survey"], _request(rings))


def status(environment: Environment) -> dict[str, Any]:
    """Return every key version with its state and number of values.

    `complete` says whether all values have the newest key; `unreadable` counts those that no host's key opens.
    """
    rings = read_rings(environment)
    found = survey(environment, rings)
    counts = {FIELD: found["values"], INDEX: found["indexes"]}
    versions = [row for kind in KINDS for row in _versions(kind, rings, counts[kind])]
    values = [row for row in versions if row["kind"] == KINDS[FIELD]]
    return {
        "environment": environment.name,
        "versions": versions,
        "values": sum(row["values"] for row in values),
        "unreadable": sum(row["values"] for row in values if row["state"] in ("retired", "unknown")),
        "complete": not rings.is_pending and all(row["state"] == "newest" for row in versions if row["values"]),
    }


def _versions(kind: str, rings: Rings, counts: dict[str, int] | None) -> list[dict[str, Any]]:
    ring, retired = rings.live[kind], rings.retired.get(kind)
    states = dict.fromkeys((int(version) for version in counts or {}), "unknown")
    states |= dict.fromkeys(retired.keys if retired else (), "retired")
    states |= dict.fromkeys(ring.keys, "old") | {ring.newest: "newest"}
    if ring.pending:
        states[ring.pending] = "pending"
    return [
        {
            "kind": KINDS[kind],
            "version": version,
            "state": state,
            "values": None if counts is None else counts.get(str(version), 0),
        }
        for version, state in sorted(states.items())
    ]


def rotate(
    environment: Environment,
    *,
    blind_index: bool = False,
    rate: float | None = None,
    on_step: Show = _silent,
    on_task: Show = _silent,
    on_count: Show = _silent,
) -> dict[str, Any]:
    """Give every value a new key; what an interrupted rotation or a restore left to older keys is finished instead.

    `blind_index` makes a new key for the index too; `rate` is how many values a second are written at most. `on_step`
    gets what is done now, `on_task` the tasks of a playbook, `on_count` the values done as `DONE/TOTAL values`. Returns
    what was done. Raises DbkeepError with the values that cannot be read, when all others are done.
    """
    with changing(environment):
        rings = read_rings(environment)
        resumed = rings.is_pending
        if not resumed:
            found = survey(environment, rings)
            if _has_old(rings, found):
                on_step("encrypt the values that older keys have left")
                deploy(environment, on_task)
                result = reencrypt(environment, rings, rate, on_count)
                if result["rewritten"]:
                    return _done(environment, rings, result, resumed=True)
            rings = _with_pending(rings, (FIELD, INDEX) if blind_index else (FIELD,))
            write_rings(environment, rings)
        elif blind_index and not rings.live[INDEX].pending:
            raise UsageError("an interrupted rotation without the index waits: finish it with `dbkeep keys rotate`")
        on_step("give the new key to every reader")
        deploy(environment, on_task)
        rings = Rings({kind: ring.promoted() for kind, ring in rings.live.items()}, rings.retired, rings.password)
        write_rings(environment, rings)
        on_step("write with the new key")
        deploy(environment, on_task)
        on_step("encrypt the values of older keys again")
        result = reencrypt(environment, rings, rate, on_count)
        return _done(environment, rings, result, resumed=resumed)


def _has_old(rings: Rings, found: dict[str, Any]) -> bool:
    newest = {"values": rings.live[FIELD].newest, "indexes": rings.live[INDEX].newest}
    return any(int(version) != newest[part] for part in newest for version in found[part] or {})


def _with_pending(rings: Rings, kinds: tuple[str, ...]) -> Rings:
    live = dict(rings.live)
    for kind in kinds:
        key = KeyRing.parse(new_password()).keys[1]
        live[kind] = live[kind].with_pending(max(rings.all_keys(kind).keys) + 1, key)
    return Rings(live, rings.retired, rings.password)


def _done(environment: Environment, rings: Rings, result: dict[str, Any], *, resumed: bool) -> dict[str, Any]:
    if result["unreadable"]:
        raise DbkeepError(
            f"{result['unreadable']} values of chat.users.email do not decrypt or have an address that another account "
            f"has too, first in rows {', '.join(result['rows'])}; all others have the newest key"
        )
    newest = {KINDS[kind]: ring.newest for kind, ring in rings.live.items()}
    return {"environment": environment.name, "newest": newest, "resumed": resumed, **result}


def retire(
    environment: Environment, version: int, *, kind: str = FIELD, on_step: Show = _silent, on_task: Show = _silent
) -> dict[str, Any]:
    """Take a key from the hosts that no live value uses; the vault keeps it for backups.

    Returns the version and the backup sets whose values may need it. Raises UsageError for a version that is not there
    or is written with, DbkeepError while values use it.
    """
    with changing(environment):
        rings = read_rings(environment)
        if kind not in rings.retired or version not in rings.retired[kind].keys:
            _require_retirable(environment, rings, kind, version)
            # Every process writes with the newest key before the values are counted.
            on_step("make sure that every host writes with the newest key")
            deploy(environment, on_task)
            found = survey(environment, rings)
            users = (found["values"] if kind == FIELD else found["indexes"]).get(str(version), 0)
            if users:
                what = f"{users} values use {KINDS[kind]} key {version}"
                raise DbkeepError(f"{what}: run `dbkeep keys rotate`, then this again")
            rings = _without(rings, kind, version)
            write_rings(environment, rings)
        on_step(f"take {KINDS[kind]} key {version} from the hosts")
        deploy(environment, on_task)
        sets = [str(found["set_id"]) for found in list_sets(environment)]
        return {"environment": environment.name, "kind": KINDS[kind], "retired": version, "backup_sets": sets}


def _require_retirable(environment: Environment, rings: Rings, kind: str, version: int) -> None:
    ring, what = rings.live[kind], f"{KINDS[kind]} key {version} of {environment.name} cannot be retired"
    if version not in ring.keys:
        raise UsageError(f"{what}: there is no such version; `dbkeep keys status` lists them")
    if rings.is_pending:
        raise UsageError(f"{what}: a rotation waits to be finished; run `dbkeep keys rotate`")
    if version == ring.newest:
        raise UsageError(f"{what}: it is the newest; make another with `dbkeep keys rotate` first")


def _without(rings: Rings, kind: str, version: int) -> Rings:
    retired = rings.retired[kind].keys if kind in rings.retired else {}
    kept = KeyRing({**retired, version: rings.live[kind].keys[version]})
    live = {**rings.live, kind: rings.live[kind].without(version)}
    return Rings(live, {**rings.retired, kind: kept}, rings.password)


def deploy(environment: Environment, on_task: Show) -> None:
    """Give the vault's secrets to the API on every host, one host after the other; raises DbkeepError if one fails."""
    log = checkout() / "evidence" / environment.name / "keys.log"
    run_playbook("site.yml", environment.name, log=log, arguments=["--tags", "chat_api"], on_task=on_task)


def reencrypt(environment: Environment, rings: Rings, rate: float | None, on_progress: Show) -> dict[str, Any]:
    """Encrypt what older keys wrote again, on a host of the API; raises DbkeepError with the host's own line."""
    request = {**_request(rings), "rate": rate}
    return call(_api_host(environment), ["keys", "reencrypt"], request, on_progress=on_progress)


def _request(rings: Rings) -> dict[str, Any]:
    return {
        "password": rings.password,
        "field_keys": rings.all_keys(FIELD).text,
        "blind_index_keys": rings.all_keys(INDEX).text,
        "every": len(rings.live[INDEX].keys) > 1,
    }


def _api_host(environment: Environment) -> Host:
    hosts = environment.hosts("chat_api")
    if not hosts:
        raise UsageError(f"environment {environment.name} has no host in group chat_api")
    return hosts[0]
