"""Words of `dbkeep agent backup` about points, the references between the stores, and copies beside the engines."""

from __future__ import annotations

import signal
import threading
from dataclasses import asdict
from pathlib import Path

import click
from pydantic import AwareDatetime, Field

from dbkeep.backup.lock import BusyError
from dbkeep.backup.points import mark
from dbkeep.backup.points_catalog import points_catalog
from dbkeep.backup.restore.beside import how_to_reach, serving
from dbkeep.backup.restore.references import REFERENCES, as_json, compare_here, missing, named_users
from dbkeep.backup.settings import read_host
from dbkeep.commands.exchange import Request, answer, progress, request
from dbkeep.errors import UsageError


class MarkRequest(Request):
    """Without `name` it is the timer's point for the present slot; `at` is when the fences are to be set."""

    name: str | None = None
    engines: list[str] = Field(default_factory=list)
    at: AwareDatetime | None = None


class PointsRequest(Request):
    """With `last` only so many of the newest points."""

    last: int | None = None


class NamedUsersRequest(Request):
    """`reference` is the name of one of REFERENCES, `after` what the page before said."""

    reference: str
    after: str = ""


class MissingUsersRequest(Request):
    ids: list[str]


@click.command("mark")
def mark_command() -> None:
    """Set a point in this host's engines at once and answer with its record."""
    asked = request(MarkRequest)
    try:
        point = mark(read_host(), asked.name, asked.engines, at=asked.at, progress=progress)
    except BusyError as error:
        if asked.name:
            raise
        # The timer's point falls into a restore: the next one is a few minutes away.
        progress(f"no point now: {error}")
        answer({"point": None})
        return
    answer({"point": point.model_dump(mode="json")})


@click.command("points")
def points_command() -> None:
    """Answer with the points of this host and from where each can be restored."""
    answer(points_catalog(read_host(), request(PointsRequest).last))


@click.command("references")
def references_command() -> None:
    """Compare the references between the stores of this host and answer with what dangles."""
    request(Request)
    answer(as_json(compare_here(read_host())))


@click.command("named-users")
def named_users_command() -> None:
    """Answer with a page of the users that one place of this host names."""
    asked = request(NamedUsersRequest)
    for reference in REFERENCES:
        if reference.name == asked.reference:
            answer(asdict(named_users(read_host(), reference, asked.after)))
            return
    raise UsageError(f"the request's reference: {asked.reference!r} is none of {[r.name for r in REFERENCES]}")


@click.command("missing-users")
def missing_users_command() -> None:
    """Answer with those of the request's ids that no user has."""
    answer({"missing": missing(read_host(), request(MissingUsersRequest).ids)})


@click.command("serve")
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


POINT_WORDS = (
    mark_command,
    points_command,
    references_command,
    named_users_command,
    missing_users_command,
    serve_command,
)
