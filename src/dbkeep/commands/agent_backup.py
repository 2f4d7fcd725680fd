"""`dbkeep agent backup`: backups of this host, called by its timer and by the controller."""

from __future__ import annotations

import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from dbkeep.backup.beside import how_to_reach, restore_beside, serving
from dbkeep.backup.catalog import catalog
from dbkeep.backup.claims import read_claims
from dbkeep.backup.copies import copy_all
from dbkeep.backup.drill import drill
from dbkeep.backup.manifest import NEWEST
from dbkeep.backup.points import mark
from dbkeep.backup.points_catalog import points_catalog
from dbkeep.backup.prove_stores import prove_stores
from dbkeep.backup.prune import prune_all
from dbkeep.backup.references import REFERENCES, as_json, compare_here, missing, named_users
from dbkeep.backup.restore import plan, restore
from dbkeep.backup.run import run
from dbkeep.backup.settings import ALL, LOCAL, read_host
from dbkeep.backup.ship import ship, ship_every
from dbkeep.backup.sign_sets import sign_sets, unsigned_parts
from dbkeep.backup.target import Target
from dbkeep.backup.verify import verify
from dbkeep.commands.exchange import answer, read_request
from dbkeep.errors import UsageError


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunRequest(Request):
    """Without `set_id` it is the timer's run for the present slot."""

    set_id: str | None = None
    engines: list[str] = []


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
    engines: list[str] = []


class TargetRequest(SetRequest):
    """A point or a moment goes before the set."""

    point: str | None = None
    to: AwareDatetime | None = None

    def target(self) -> Target:
        return Target(self.set_id, self.point, self.to)


class MarkRequest(Request):
    """Without `name` it is the timer's point for the present slot; `at` is when the fences are to be set."""

    name: str | None = None
    engines: list[str] = []
    at: AwareDatetime | None = None


class ShipRequest(Request):
    """With `every` a round is done every so many seconds until the process is told to stop."""

    every: float | None = Field(default=None, ge=1, le=3600)


class VerifyRequest(SetRequest):
    """Without `store` every copy is compared."""

    store: str = ALL


class NamedUsersRequest(Request):
    """`reference` is the name of one of REFERENCES, `after` what the page before said."""

    reference: str
    after: str = ""


class MissingUsersRequest(Request):
    ids: list[str]


class IdentityRequest(SetRequest):
    """The identity is used in memory and goes nowhere else."""

    identity: SecretStr


class DrillRequest(IdentityRequest):
    """`claims` are what dbkeep.backup.claims made of the declared state; `strict` says that the set is the newest."""

    claims: dict[str, Any] = {}
    strict: bool = True


class RestoreRequest(TargetRequest):
    """With `directory` it is restored beside the running engines, into that folder."""

    identity: SecretStr
    directory: Path | None = None


R = TypeVar("R", bound=Request)


def request(model: type[R]) -> R:
    """Return the request on standard input as `model`; raises UsageError naming the key that is wrong, no value."""
    try:
        return model.model_validate(read_request())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise UsageError(f"the request's {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def progress(line: str) -> None:
    click.echo(line, err=True)


@click.group("backup")
def agent_backup_group() -> None:
    """Back up, check, restore and drill the engines of this host."""


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
    answer(plan(read_host(), asked.target(), asked.engines, asked.store))


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
    answer(restore(read_host(), target, asked.engines, identity, store=asked.store, progress=progress))


@agent_backup_group.command("serve")
@click.argument("directory", type=click.Path(path_type=Path))
def serve_command(directory: Path) -> None:
    """Start the servers of what was restored into DIRECTORY, say how to reach them, and stop them on Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with serving(read_host(), directory) as copies:
        for line in how_to_reach(copies):
            click.echo(line)
        stop.wait()


@agent_backup_group.command("drill")
def drill_command() -> None:
    """Restore a set into throw-away engines on this host and answer with the evidence, also when it failed."""
    asked = request(DrillRequest)
    identity = asked.identity.get_secret_value()
    evidence = drill(
        read_host(), asked.set_id, asked.engines, identity,
        store=asked.store, claimed=read_claims(asked.claims), strict=asked.strict, progress=progress,
    )  # fmt: skip
    answer(evidence)


@agent_backup_group.command("mark")
def mark_command() -> None:
    """Set a point in this host's engines at once and answer with its record."""
    asked = request(MarkRequest)
    point = mark(read_host(), asked.name, asked.engines, at=asked.at, progress=progress)
    answer({"point": point.model_dump(mode="json")})


@agent_backup_group.command("points")
def points_command() -> None:
    """Answer with the points of this host and from where each can be restored."""
    request(Request)
    answer(points_catalog(read_host()))


@agent_backup_group.command("references")
def references_command() -> None:
    """Compare the references between the stores of this host and answer with what dangles."""
    request(Request)
    answer(as_json(compare_here(read_host())))


@agent_backup_group.command("named-users")
def named_users_command() -> None:
    """Answer with a page of the users that one place of this host names."""
    asked = request(NamedUsersRequest)
    for reference in REFERENCES:
        if reference.name == asked.reference:
            answer(asdict(named_users(read_host(), reference, asked.after)))
            return
    raise UsageError(f"the request's reference: {asked.reference!r} is none of {[r.name for r in REFERENCES]}")


@agent_backup_group.command("missing-users")
def missing_users_command() -> None:
    """Answer with those of the request's ids that no user has."""
    answer({"missing": missing(read_host(), request(MissingUsersRequest).ids)})
