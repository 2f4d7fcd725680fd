"""What row security costs: each query of the API under it, beside the same query with an explicit WHERE without it.

`.venv/bin/python bench/row_security.py --users 1000000` makes a throw-away PostgreSQL, fills it, and runs both forms of
each query in turns, for the same users: the API's as app_api, the explicit one as a role with BYPASSRLS. It prints the
ratios of the medians and of the 99th percentiles, for the statement alone, for the processor time that the server needs
for it (which other load does not change), and for the request as the API sends it (context, statement and commit in one
round trip, against the statement in one).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

import population
from chat_api.context import Signer, plain
from dbkeep import postgresql
from dbkeep.postgresql import context_keys
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.secrets import new_password
from dbkeep.settings import PostgreSQLSettings
from queries import QUERIES

ROOT = Path(__file__).parents[1]
TARGET = 1.10
BYPASSING = "bench_bypassing"
SET_CONTEXT = b"SELECT set_config('app.user_id', %s, true)"
WARM_UP = 50
SERVER = {"shared_buffers": "1GB", "max_wal_size": "8GB", "wal_level": "minimal", "max_wal_senders": "0"}
MOST_SAMPLED = 20_000

Session = psycopg.Connection[tuple[Any, ...]]
Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Microseconds under row security and without, and how they relate."""

    query: str
    form: str
    p50: float
    p50_without: float
    p99: float
    p99_without: float

    @property
    def ratios(self) -> tuple[float, float]:
        return self.p50 / self.p50_without, self.p99 / self.p99_without


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
            "me": me[0], "name": other[1], "other": other[0], "others": [u[0] for u in random.sample(self._users, 10)],
            "most": 500, "id": uuid4(), "key": "setting.s1", "value": Jsonb("value"), "bio": f"bio {random.random()}",
        }  # fmt: skip


def main() -> int:
    arguments = _arguments()
    console = Console(stderr=True)
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        key = new_password()
        with sandbox.start(folder, options=SERVER) as settings:
            declared = postgresql.read_declared(ROOT, context=arguments.context)
            passwords = {role: new_password() for role in postgresql.users(declared)}
            postgresql.apply(settings, declared, {**passwords, context_keys.ENTRY: key})
            with _session(settings, "postgres") as administrator:
                seconds = _fill(administrator, arguments.users, console)
                sample = Sample(administrator, arguments.users)
                administrator.execute(f"CREATE ROLE {BYPASSING} LOGIN BYPASSRLS".encode())
                for grant in ("USAGE ON SCHEMA chat", "CONNECT ON DATABASE chat", "ALL ON ALL TABLES IN SCHEMA chat"):
                    administrator.execute(f"GRANT {grant} TO {BYPASSING}".encode())
            signer = Signer(context_keys.keys(key)) if arguments.context == "signed" else None
            ratios = _measure(settings, sample, signer, arguments.runs, console)
    _report(ratios, arguments, seconds)
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
def _session(settings: PostgreSQLSettings, role: str) -> Iterator[Session]:
    with psycopg.connect(
        host=str(settings.socket_directory), port=settings.port, user=role, dbname="chat", autocommit=True
    ) as session:
        yield session


def _fill(administrator: Session, users: int, console: Console) -> float:
    started = time.monotonic()
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("fill", total=1.0)
        population.fill(administrator, users, lambda what, share: bar.update(task, description=what, completed=share))
    return time.monotonic() - started


def _measure(
    settings: PostgreSQLSettings, sample: Sample, signer: Signer | None, runs: int, console: Console
) -> list[Ratio]:
    ratios = []
    compared = [query for query in QUERIES if query.explicit]
    with (
        _session(settings, "app_api") as secured,
        _session(settings, BYPASSING) as free,
        Progress(console=console) as bar,
    ):
        for query in bar.track(compared, description="measure"):
            for form, run in (("statement", _statement), ("server", _server), ("request", _request)):
                with_security: list[float] = []
                without: list[float] = []
                for number in range(WARM_UP + runs):
                    values = sample.values()
                    context = signer.sign(values["me"], secured.info.backend_pid) if signer else plain(values["me"])
                    turns = [
                        (with_security, secured, query.secured, context),
                        (without, free, query.explicit or "", None),
                    ]
                    # Who goes first finds the pages cold.
                    for times, session, text, acting in turns if number % 2 else reversed(turns):
                        times.append(run(session, text.encode(), values, acting))
                ratios.append(Ratio(query.name, form, *_percentiles(with_security[WARM_UP:], without[WARM_UP:])))
    return ratios


def _statement(session: Session, text: bytes, values: Mapping[str, Any], context: str | None) -> float:
    """Seconds of the statement alone, within a transaction that has its context."""
    with session.transaction():
        session.execute(SET_CONTEXT, [context or ""], prepare=True)
        started = time.perf_counter()
        cursor = session.execute(text, values, prepare=True)
        if cursor.description:
            cursor.fetchall()
        return time.perf_counter() - started


def _server(session: Session, text: bytes, values: Mapping[str, Any], context: str | None) -> float:
    """Seconds that the session's server process runs for the statement (proc(5), schedstat)."""
    schedule = Path(f"/proc/{session.info.backend_pid}/schedstat")
    with session.transaction():
        session.execute(SET_CONTEXT, [context or ""], prepare=True)
        before = int(schedule.read_text(encoding="ascii").split()[0])
        session.execute(text, values, prepare=True)
        return (int(schedule.read_text(encoding="ascii").split()[0]) - before) / 1e9


def _request(session: Session, text: bytes, values: Mapping[str, Any], context: str | None) -> float:
    """Seconds of everything that one request waits for, in one round trip."""
    started = time.perf_counter()
    with session.pipeline():
        if context is not None:
            session.execute(SET_CONTEXT, [context], prepare=True)
        cursor = session.execute(text, values, prepare=True)
    if cursor.description:
        cursor.fetchall()
    return time.perf_counter() - started


def _percentiles(*series: list[float]) -> Iterator[float]:
    """The medians of all series in microseconds, then their 99th percentiles, as Ratio wants them."""
    ordered = [sorted(times) for times in series]
    at = {share: [times[int(len(times) * share)] * 1e6 for times in ordered] for share in (0.5, 0.99)}
    yield from (at[0.5][0], at[0.5][1], at[0.99][0], at[0.99][1])


def _report(ratios: list[Ratio], arguments: argparse.Namespace, seconds: float) -> None:
    if arguments.json:
        document = {**vars(arguments), "fill_seconds": round(seconds, 1), "ratios": [asdict(r) for r in ratios]}
        print(json.dumps(document, indent=2))
        return
    title = f"{arguments.users:,} users, {arguments.context} context, filled in {seconds:.0f} s"
    table = Table(title=title, caption=f"µs; row security against an explicit WHERE; the target is {TARGET:.2f}")
    for heading in ("query", "form", "p50", "without", "ratio", "p99", "without", "ratio"):
        table.add_column(heading, justify="left" if heading in ("query", "form") else "right")
    for ratio in ratios:
        shown = [f"[{'green' if value <= TARGET else 'yellow'}]{value:.2f}[/]" for value in ratio.ratios]
        table.add_row(
            ratio.query, ratio.form, f"{ratio.p50:.0f}", f"{ratio.p50_without:.0f}", shown[0],
            f"{ratio.p99:.0f}", f"{ratio.p99_without:.0f}", shown[1],
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
