"""What row security costs: each query of the API under it, beside the same query with an explicit WHERE without it.

`.venv/bin/python bench/row_security.py --users 1000000` makes a throw-away PostgreSQL, fills it, and runs both forms of
each query in turns, for the same users, over TLS as the API does: the API's as app_api, the explicit one as a role with
the same grants and BYPASSRLS. The explicit one runs in two sessions: how these differ (A/A) is how far two equal things
are apart on this machine, and no ratio says more than that. It prints the ratios of the medians and of the 99th
percentiles, for the statement alone, for the processor time that the server needs for it (which other load does not
change), and for the request as the API sends it (context, statement and commit in one write and one round trip, against
the statement in one).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

import population
import tls_server
from chat_api.context import Signer, plain
from chat_api.stores.one_write import OneWrite
from chat_api.users.store import array_of
from dbkeep.postgresql import context_keys
from dbkeep.secrets import new_password
from queries import QUERIES

TARGET = 1.10
API = "app_api"
BYPASSING = "bench_bypassing"
SET_CONTEXT = b"SELECT set_config('app.user_id', %s, true)"
WARM_UP = 50
SERVER = {"shared_buffers": "1GB", "max_wal_size": "8GB", "wal_level": "minimal", "max_wal_senders": "0"}
MOST_SAMPLED = 20_000

Session = psycopg.Connection[tuple[Any, ...]]
Values = dict[str, Any]
Context = Callable[[int], str]
"""Of the server process that takes it."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Microseconds of one percentile: under row security, without, and without once more."""

    secured: float
    without: float
    again: float

    @property
    def ratio(self) -> float:
        """Against the mean of both sessions without: one of them may have had the luckier place in memory."""
        return self.secured / ((self.without + self.again) / 2)

    @property
    def equal(self) -> float:
        return max(self.without, self.again) / min(self.without, self.again)


@dataclass(frozen=True, slots=True)
class Cost:
    query: str
    form: str
    p50: Sides
    p99: Sides


class Sample:
    """Random users of the load, drawn anew for each run of a query."""

    def __init__(self, administrator: Session, users: int) -> None:
        share = min(100.0, 100 * 4 * MOST_SAMPLED / users)
        drawn = administrator.execute(
            f"SELECT id, username FROM chat.users TABLESAMPLE BERNOULLI ({share})"
            f" ORDER BY random() LIMIT {MOST_SAMPLED}"
        )
        self._users = drawn.fetchall()

    def values(self) -> Values:
        me, other = random.sample(self._users, 2)
        return {
            "me": me[0], "name": other[1], "other": other[0],
            "others": array_of(user for user, _ in random.sample(self._users, 10)),
            "most": 500, "id": uuid4(), "key": "setting.s1", "value": Jsonb("value"), "bio": f"bio {random.random()}",
        }  # fmt: skip


def main() -> int:
    arguments = _arguments()
    console = Console(stderr=True)
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with tls_server.start(folder, context=arguments.context, options=SERVER) as server:
            with _administrator(server) as administrator:
                seconds = _fill(administrator, arguments.users, console)
                sample = Sample(administrator, arguments.users)
                _let_bypass(administrator, server)
            signer = Signer(context_keys.keys(server.context_key)) if arguments.context == "signed" else None
            costs = _measure(server, sample, signer, arguments.runs, console)
    _report(costs, arguments, seconds)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--users", type=int, default=20_000, help="how many users, with four relationships each")
    parser.add_argument("--runs", type=int, default=2_000, help="how often each form of each query runs")
    parser.add_argument("--context", choices=["plain", "signed"], default="plain")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


@contextmanager
def _administrator(server: tls_server.Server) -> Iterator[Session]:
    settings = server.settings
    with psycopg.connect(
        host=str(settings.socket_directory), port=settings.port, user=settings.user,
        dbname=server.declared.scope.database, autocommit=True,
    ) as session:  # fmt: skip
        yield session


@dataclass(frozen=True, slots=True)
class Client:
    """Sessions of one role: for statements, and for requests, which the API sends from an event loop."""

    session: Session
    requests: psycopg.AsyncConnection[tuple[Any, ...]]


@contextmanager
def _client(server: tls_server.Server, role: str, loop: asyncio.Runner) -> Iterator[Client]:
    login = {**server.login(role), "autocommit": True}
    requests = loop.run(psycopg.AsyncConnection.connect(**login))
    try:
        with psycopg.connect(**login) as session:
            yield Client(session, requests)
    finally:
        loop.run(requests.close())


def _fill(administrator: Session, users: int, console: Console) -> float:
    started = time.monotonic()
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("fill", total=1.0)
        population.fill(administrator, users, lambda what, share: bar.update(task, description=what, completed=share))
    return time.monotonic() - started


def _let_bypass(administrator: Session, server: tls_server.Server) -> None:
    """Make the other side's role: it may do what app_api may, by column too, so that row security is all it lacks."""
    server.passwords[BYPASSING] = new_password()
    role, api = sql.Identifier(BYPASSING), server.declared.roles[API].grants
    administrator.execute(
        sql.SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {}").format(role, server.passwords[BYPASSING])
    )
    administrator.execute(sql.SQL("GRANT USAGE ON SCHEMA chat TO {}").format(role))
    administrator.execute(
        sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(server.declared.scope.database), role)
    )
    for table, rights in api.relations.items():
        for privilege, columns in rights.items():
            only = sql.SQL("" if columns == "all" else f"({', '.join(columns)})")
            grant = sql.SQL("GRANT {} {} ON {} TO {}")
            name = sql.Identifier(*table.split("."))
            administrator.execute(grant.format(sql.SQL(privilege), only, name, role))


def _measure(
    server: tls_server.Server, sample: Sample, signer: Signer | None, runs: int, console: Console
) -> list[Cost]:
    costs = []
    with (
        asyncio.Runner() as loop,
        _client(server, API, loop) as secured,
        _client(server, BYPASSING, loop) as without,
        _client(server, BYPASSING, loop) as again,
        Progress(console=console) as bar,
    ):
        gc.disable()
        for query in bar.track([query for query in QUERIES if query.explicit], description="measure"):
            for form, run in (("statement", _statement), ("server", _server), ("request", partial(_request, loop))):
                times: dict[str, list[float]] = {"secured": [], "without": [], "again": []}
                for _ in range(WARM_UP + runs):
                    values = sample.values()
                    context = partial(_context, signer, values["me"])
                    turns: list[tuple[str, Client, str, Context | None]] = [
                        ("secured", secured, query.secured, context),
                        ("without", without, query.explicit or "", None),
                        ("again", again, query.explicit or "", None),
                    ]
                    # Who goes first finds the pages cold.
                    for side, client, text, acting in random.sample(turns, len(turns)):
                        times[side].append(run(client, text.encode(), values, acting))
                measured = [sorted(taken[WARM_UP:]) for taken in times.values()]
                p50, p99 = (Sides(*(one[int(len(one) * share)] * 1e6 for one in measured)) for share in (0.5, 0.99))
                costs.append(Cost(query.name, form, p50, p99))
    return costs


def _context(signer: Signer | None, user: UUID, backend_pid: int) -> str:
    return signer.sign(user, backend_pid) if signer else plain(user)


def _set_context(session: Session, context: Context | None) -> None:
    session.execute(SET_CONTEXT, [context(session.info.backend_pid) if context else ""], prepare=True)


def _statement(client: Client, text: bytes, values: Values, context: Context | None) -> float:
    """Seconds of the statement alone, within a transaction that has its context."""
    with client.session.transaction():
        _set_context(client.session, context)
        started = time.perf_counter()
        cursor = client.session.execute(text, values, prepare=True)
        if cursor.description:
            cursor.fetchall()
        return time.perf_counter() - started


def _server(client: Client, text: bytes, values: Values, context: Context | None) -> float:
    """Seconds that the session's server process runs for the statement (proc(5), schedstat)."""
    schedule = Path(f"/proc/{client.session.info.backend_pid}/schedstat")
    with client.session.transaction():
        _set_context(client.session, context)
        before = int(schedule.read_text(encoding="ascii").split()[0])
        client.session.execute(text, values, prepare=True)
        return (int(schedule.read_text(encoding="ascii").split()[0]) - before) / 1e9


def _request(loop: asyncio.Runner, client: Client, text: bytes, values: Values, context: Context | None) -> float:
    """Seconds of everything that one request waits for, in one round trip."""
    return loop.run(_timed(client.requests, text, values, context))


async def _timed(
    session: psycopg.AsyncConnection[tuple[Any, ...]], text: bytes, values: Values, context: Context | None
) -> float:
    started = time.perf_counter()
    if context is None:
        cursor = await session.execute(text, values, prepare=True)
    else:
        async with OneWrite(session):
            await session.execute(SET_CONTEXT, [context(session.info.backend_pid)], prepare=True)
            cursor = await session.execute(text, values, prepare=True)
    if cursor.description:
        await cursor.fetchall()
    return time.perf_counter() - started


def _report(costs: list[Cost], arguments: argparse.Namespace, seconds: float) -> None:
    if arguments.json:
        document = {**vars(arguments), "fill_seconds": round(seconds, 1), "costs": [asdict(cost) for cost in costs]}
        print(json.dumps(document, indent=2))
        return
    title = f"{arguments.users:,} users, {arguments.context} context, filled in {seconds:.0f} s"
    caption = f"µs; row security against an explicit WHERE; the target is {TARGET:.2f}; A/A: the WHERE against itself"
    table = Table(title=title, caption=caption)
    for heading in ("query", "form", "p50", "without", "ratio", "A/A", "p99", "without", "ratio", "A/A"):
        table.add_column(heading, justify="left" if heading in ("query", "form") else "right")
    for cost in costs:
        table.add_row(cost.query, cost.form, *_cells(cost.p50), *_cells(cost.p99))
    Console().print(table)


def _cells(sides: Sides) -> tuple[str, str, str, str]:
    colour = "green" if sides.ratio <= TARGET else "yellow"
    shown = f"[{colour}]{sides.ratio:.2f}[/]"
    return f"{sides.secured:.0f}", f"{(sides.without + sides.again) / 2:.0f}", shown, f"{sides.equal:.2f}"


if __name__ == "__main__":
    sys.exit(main())
