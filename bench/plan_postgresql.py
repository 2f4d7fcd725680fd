"""How long `plan` and `apply` take on many tables and grants, against PostgreSQL's own tools in the same run."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psycopg

from dbkeep import postgresql
from dbkeep.errors import DbkeepError
from dbkeep.postgresql import Declared
from dbkeep.postgresql.configuration import Configuration
from dbkeep.postgresql.models import Grants, Migration, Policy, Role, Scope
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLSettings

ROLES = 10
TABLES_IN_A_MIGRATION = 10


def declared_with(tables: int) -> Declared:
    """Return a declared state of that many tables, each with a policy and a grant to each of `ROLES` roles."""
    names = [f"chat.table_{number}" for number in range(tables)]
    relations = {name: {"SELECT": "all"} for name in names}
    roles = {
        "chat_owner": Role(comment="owns"),
        "chat_definer": Role(comment="defines"),
        **{f"app_{number}": Role(comment="reads", grants=_grants(relations)) for number in range(ROLES)},
    }
    return Declared(
        scope=Scope(
            database="chat", owner="chat_owner", definer="chat_definer", schemas=("chat",),
            protected_schemas=("chat",), managed_roles="^(chat_|app_)", extensions={"plpgsql": "pg_catalog"},
        ),
        roles=roles,
        migrations=tuple(_migrations(names)),
        tables=tuple(names),
        policies=tuple(_policy(name) for name in names),
        functions=(), views=(), configuration=Configuration(server={}, archive={}), grant_lines={},
    )  # fmt: skip


def _grants(relations: dict[str, Any]) -> Grants:
    return Grants.model_validate({"schemas": {"chat": ["USAGE"]}, "relations": relations})


def _migrations(names: list[str]) -> Iterator[Migration]:
    for start in range(0, len(names), TABLES_IN_A_MIGRATION):
        some = names[start : start + TABLES_IN_A_MIGRATION]
        sql = "\n".join(f"CREATE TABLE {name} (id uuid PRIMARY KEY, owner text NOT NULL, value text);" for name in some)
        rollback = "\n".join(f"DROP TABLE {name};" for name in some)
        number = start // TABLES_IN_A_MIGRATION + 1
        yield Migration(id=f"{number:04}_tables", path=f"{number:04}_tables.sql", sql=sql, rollback=rollback)


def _policy(table: str) -> Policy:
    return Policy(
        table=table, name="own", path="bench", line=1, permissive=True, command="SELECT", roles=("app_0",),
        clauses="USING (owner = CURRENT_USER)",
    )  # fmt: skip


def queries_of_a_plan(folder: Path, tables: int) -> int:
    """Return how many queries the plan of a converged server of that many tables sends, counted in the server's log."""
    declared = declared_with(tables)
    with sandbox.start(folder, options={"log_statement": "all"}) as settings:
        postgresql.apply(settings, declared, {})
        log = folder / "postgresql.log"
        before = len(log.read_bytes())
        if postgresql.plan(settings, declared, {}):
            raise DbkeepError("the plan is not empty after apply")
        return len(re.findall(rb"LOG:  (?:statement|execute)", log.read_bytes()[before:]))


@contextmanager
def _servers() -> Iterator[Path]:
    """A folder that the server's own user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-bench-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _client(settings: PostgreSQLSettings, program: str, *arguments: str) -> str:
    """Run one of PostgreSQL's own programs and return what it prints."""
    where = ["-h", str(settings.socket_directory), "-p", str(settings.port), "-U", settings.user]
    command = [str(sandbox.find_binaries() / program), *where, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _connection(settings: PostgreSQLSettings) -> None:
    with psycopg.connect(
        host=str(settings.socket_directory), port=settings.port, user=settings.user, dbname="chat"
    ) as session:
        session.execute("SELECT count(*) FROM pg_class")


def measure(folder: Path, tables: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round of each side."""
    declared = declared_with(tables)
    found: dict[str, list[float]] = {name: [] for name in ("plan", "pg_dump", "connection", "apply", "psql")}
    dump = folder / "dump.sql"
    for number in range(rounds):
        with sandbox.start(folder / f"apply-{number}") as settings:
            found["apply"].append(_seconds(lambda: postgresql.apply(settings, declared, {})))
            dump.write_text(_client(settings, "pg_dumpall", "--schema-only"), encoding="utf-8")
            for _ in range(rounds):
                found["plan"].append(_seconds(lambda: postgresql.plan(settings, declared, {})))
                found["pg_dump"].append(_seconds(lambda: _client(settings, "pg_dump", "--schema-only", "chat")))
                found["connection"].append(_seconds(lambda: _connection(settings)))
        with sandbox.start(folder / f"psql-{number}") as settings:
            found["psql"].append(_seconds(lambda: _client(settings, "psql", "-qXf", str(dump), "postgres")))
    return found


@click.command()
@click.option("--tables", default=200, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(tables: int, rounds: int, as_json: bool) -> None:
    """Measure plan and apply on TABLES tables with ten times as many grants."""
    with _servers() as folder:
        queries = {size: queries_of_a_plan(folder / f"count-{size}", size) for size in (10, tables)}
        seconds = {name: statistics.median(all_) for name, all_ in measure(folder, tables, rounds).items()}
    result = {
        "tables": tables, "grants": tables * ROLES, "queries": queries, "seconds": seconds,
        "plan_to_pg_dump": seconds["plan"] / seconds["pg_dump"], "apply_to_psql": seconds["apply"] / seconds["psql"],
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    click.echo(f"{tables} tables, {tables * ROLES} grants, median of {rounds * rounds} and {rounds} rounds")
    click.echo(f"plan   {seconds['plan']:.2f} s = {result['plan_to_pg_dump']:.2f} x pg_dump --schema-only"
               f" = {seconds['plan'] / seconds['connection']:.0f} x a connection and one query")  # fmt: skip
    click.echo(f"apply  {seconds['apply']:.2f} s = {result['apply_to_psql']:.2f} x psql running pg_dumpall's output")
    click.echo(f"queries of a plan: {', '.join(f'{count} for {size} tables' for size, count in queries.items())}")


if __name__ == "__main__":
    main()
