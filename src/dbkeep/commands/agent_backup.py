"""`dbkeep agent backup`: backups of this host, called by its timer and by the controller."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click
from pydantic import AwareDatetime, Field, SecretStr

from dbkeep.backup.catalog import catalog
from dbkeep.backup.drill.claims import read_claims
from dbkeep.backup.drill.run import drill
from dbkeep.backup.log.ship import ship, ship_every
from dbkeep.backup.manifest import NEWEST
from dbkeep.backup.prune import prune_all
from dbkeep.backup.restore.beside import restore_beside
from dbkeep.backup.restore.received import receive, send
from dbkeep.backup.restore.run import plan, restore
from dbkeep.backup.restore.target import Target
from dbkeep.backup.run import run
from dbkeep.backup.settings import ALL, LOCAL, read_host
from dbkeep.backup.sign_sets import sign_sets, unsigned_parts
from dbkeep.backup.stores.copies import copy_all
from dbkeep.backup.stores.prove import prove_stores
from dbkeep.backup.verify import verify
from dbkeep.commands.agent_points import POINT_WORDS
from dbkeep.commands.exchange import Request, answer, progress, request
from dbkeep.errors import UsageError
from dbkeep.evidence import write


class RunRequest(Request):
    """Without `set_id` it is the timer's run for the present slot."""

    set_id: str | None = None
    engines: list[str] = Field(default_factory=list)


class StoreRequest(Request):
    """`store` is `local` for what is on the host, or the name of one of its stores."""

    store: str = LOCAL


class CopyRequest(Request):
    """Without `again` only what is missing in the stores is copied; with it all of that set as well."""

    again: str | None = None


class StoresRequest(Request):
    """With `prepare` buckets are made ready first."""

    prepare: bool = False


class ChangeRequest(Request):
    """With `dry_run` the answer says what would be done, and nothing is."""

    dry_run: bool = False


class SetRequest(StoreRequest):
    set_id: str = NEWEST
    engines: list[str] = Field(default_factory=list)


class TargetRequest(SetRequest):
    """A point or a moment goes before the set. `source` is the host whose data it is, when that is another one."""

    point: str | None = None
    to: AwareDatetime | None = None
    source: str = ""

    def target(self) -> Target:
        return Target(self.set_id, self.point, self.to)


class SendRequest(TargetRequest):
    """With `records_only` it is what a plan reads."""

    records_only: bool = False


class ShipRequest(Request):
    """With `every` a round is done every so many seconds until the process is told to stop."""

    every: float | None = Field(default=None, ge=1, le=3600)


class VerifyRequest(SetRequest):
    """Without `store` every copy is compared."""

    store: str = ALL


class DrillRequest(TargetRequest):
    """`claims` are what drill_claims made of the declared state; `strict` says that the set is the newest.

    The identity is used in memory and goes nowhere else.
    """

    identity: SecretStr
    claims: dict[str, Any] = Field(default_factory=dict)
    strict: bool = True


class DrilledRequest(Request):
    """`evidence` is the controller's record of a drill that ran on another host."""

    evidence: dict[str, Any]


class RestoreRequest(TargetRequest):
    """With `directory` it is restored beside the running engines, into that folder."""

    identity: SecretStr
    directory: Path | None = None


@click.group("backup")
def agent_backup_group() -> None:
    """Back up, check, restore and drill the engines of this host."""


for word in POINT_WORDS:
    agent_backup_group.add_command(word)


@agent_backup_group.command("run")
def run_command() -> None:
    """Take a backup set of this host's engines and answer with its parts."""
    asked = request(RunRequest)
    parts = run(read_host(), asked.set_id, asked.engines, progress=progress)
    answer({"parts": [part.model_dump(mode="json") for part in parts]})


@agent_backup_group.command("list")
def list_command() -> None:
    """Answer with the manifests of every set on this host or in a store, and which stores have copies of them."""
    answer(catalog(read_host(), request(StoreRequest).store))


@agent_backup_group.command("copy")
def copy_command() -> None:
    """Bring every store what it lacks and answer with what was copied."""
    answer(copy_all(read_host(), request(CopyRequest).again, progress=progress))


@agent_backup_group.command("ship")
def ship_command() -> None:
    """Cut the engines' logs and bring every store the slices that it lacks; answer with the newest of each engine."""
    asked = request(ShipRequest)
    if asked.every is None:
        answer({"newest": ship(read_host(), progress=progress)})
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ship_every(read_host(), asked.every, stop, progress=progress)
    answer({"newest": {}})


@agent_backup_group.command("stores")
def stores_command() -> None:
    """Answer with what every store proved: that it answers, and refuses to delete what is locked."""
    answer({"stores": prove_stores(read_host(), prepare=request(StoresRequest).prepare)})


@agent_backup_group.command("prune")
def prune_command() -> None:
    """Let go what retention does not keep, here and in directories, and answer with it."""
    answer(prune_all(read_host(), dry_run=request(ChangeRequest).dry_run, progress=progress))


@agent_backup_group.command("sign")
def sign_command() -> None:
    """Sign the parts on this host that have no signature and answer with them."""
    host = read_host()
    if request(ChangeRequest).dry_run:
        answer({"parts": ["/".join(name) for name in unsigned_parts(host)]})
    else:
        answer({"parts": sign_sets(host, progress)})


@agent_backup_group.command("verify")
def verify_command() -> None:
    """Compare a set's stored bytes with its manifests and answer with the problems."""
    asked = request(VerifyRequest)
    answer(verify(read_host(), asked.set_id, asked.engines, asked.store))


@agent_backup_group.command("plan")
def plan_command() -> None:
    """Answer with what a restore would replace and lose; changes nothing."""
    asked = request(TargetRequest)
    answer(plan(read_host(), asked.target(), asked.engines, asked.store, asked.source))


@agent_backup_group.command("restore")
def restore_command() -> None:
    """Put a set, a point or a moment in place of the live data and answer with the evidence."""
    asked = request(RestoreRequest)
    identity, target = asked.identity.get_secret_value(), asked.target()
    if asked.directory:
        found = restore_beside(
            read_host(), target, asked.engines, identity, asked.directory, store=asked.store, progress=progress
        )
        answer(found)
        return
    answer(
        restore(read_host(), target, asked.engines, identity, store=asked.store, source=asked.source, progress=progress)
    )


@agent_backup_group.command("send")
def send_command() -> None:
    """Answer, as a tar stream, with what of this host's repository brings engines to a target."""
    asked = request(SendRequest)
    send(read_host(), asked.target(), asked.engines, sys.stdout.buffer, records_only=asked.records_only)


@agent_backup_group.command("receive")
@click.option("--more", is_flag=True, help="Keep what another host has sent.")
def receive_command(*, more: bool) -> None:
    """Take the tar stream of another host's `send` from standard input."""
    receive(read_host(), sys.stdin.buffer, more=more)
    answer({})


@agent_backup_group.command("drill")
def drill_command() -> None:
    """Restore a set into throw-away engines on this host and answer with the evidence, also when it failed."""
    asked = request(DrillRequest)
    identity = asked.identity.get_secret_value()
    evidence = drill(
        read_host(), asked.target(), asked.engines, identity,
        store=asked.store, claimed=read_claims(asked.claims), strict=asked.strict, progress=progress,
    )  # fmt: skip
    answer(evidence)


@agent_backup_group.command("drilled")
def drilled_command() -> None:
    """Keep the record of a drill of this host's sets that ran on another host."""
    evidence = request(DrilledRequest).evidence
    if evidence.get("kind") != "drill":
        raise UsageError("the request's evidence: no record of a drill")
    write(evidence, read_host().settings.evidence)
    answer({})
