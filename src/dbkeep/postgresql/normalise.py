"""Has the server print the declared policies, functions and views as it prints live ones.

They are made in the session's temporary schema, on empty copies of the tables, in a transaction that is rolled back:
no live object is locked or changed, and an expression that the server would refuse is found before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from dbkeep.errors import DeclaredError
from dbkeep.postgresql import inspect, statements
from dbkeep.postgresql.connect import Connection, one_line
from dbkeep.postgresql.diff import Normal
from dbkeep.postgresql.inspect import Live
from dbkeep.postgresql.models import Declared, Policy, Routine, View
from dbkeep.postgresql.statements import Statement

PRINTED_FUNCTIONS = """
SELECT proname, oidvectortypes(proargtypes), pg_get_functiondef(oid)
FROM pg_proc WHERE pronamespace = pg_my_temp_schema()
"""
PRINTED_VIEWS = (
    "SELECT relname, pg_get_viewdef(oid) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'v'"
)


@dataclass(frozen=True, slots=True)
class _Trial:
    """One declared object and the statement that makes it in the temporary schema."""

    source: Policy | Routine | View
    statement: Statement


def normalise(connection: Connection, declared: Declared, live: Live) -> Normal:
    """Return the declared expressions as the server of `connection` prints them.

    Raises DeclaredError with file and line when the server refuses one: for its syntax, or for what it names although
    no migration, function, table or role is missing that could bring it.
    """
    incomplete = (
        any(migration.id not in live.migrations for migration in declared.migrations)
        or not {function.name for function in declared.functions} <= {function.name for function in live.functions}
        or not declared.roles.keys() <= live.roles.keys()
        or not set(declared.tables) <= live.relations.keys()
    )
    tables = [name for name in declared.tables if name in live.relations]
    trials = [
        *(_Trial(policy, _policy(policy)) for policy in declared.policies),
        *(_Trial(function, _function(function)) for function in declared.functions),
        *(_Trial(view, _view(view)) for view in declared.views),
    ]
    with connection.transaction(force_rollback=True):
        # A partitioned table has no file: it comes and goes many times faster than one that could hold rows.
        copy = sql.SQL('CREATE TEMPORARY TABLE {} (LIKE {}, "partition key" int) PARTITION BY LIST ("partition key")')
        copies = [copy.format(_temporary(table), statements.qualified(table)) for table in tables]
        connection.execute(sql.SQL(";\n").join(copies))
        _make(connection, trials, tolerant=incomplete)
        return _printed(connection, declared)


def _temporary(name: str) -> sql.Identifier:
    return sql.Identifier("pg_temp", name.split(".", 1)[1])


def _policy(policy: Policy) -> Statement:
    return statements.create_policy(policy, _temporary(policy.table))


def _function(function: Routine) -> Statement:
    head = re.compile(rf"CREATE\s+OR\s+REPLACE\s+FUNCTION\s+{re.escape(function.name)}", re.IGNORECASE)
    moved = _temporary(function.name).as_string(None)
    return statements.written(head.sub(f"CREATE FUNCTION {moved}", function.sql, count=1))


def _view(view: View) -> Statement:
    return sql.SQL("CREATE TEMPORARY VIEW {} AS ").format(
        sql.Identifier(view.name.split(".", 1)[1])
    ) + statements.written(view.query)


def _make(connection: Connection, trials: Iterable[_Trial], *, tolerant: bool) -> None:
    """Make all at once; when that fails, one by one, to find the one that is wrong or must wait."""
    trials = list(trials)
    try:
        with connection.transaction():
            connection.execute(sql.SQL(";\n").join(trial.statement for trial in trials))
        return
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        pass
    for trial in trials:
        try:
            with connection.transaction():
                connection.execute(trial.statement)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            # syntax_error: pending work cannot mend it.
            if not tolerant or error.sqlstate == "42601":
                source = trial.source
                raise DeclaredError(one_line(error), path=source.path, line=source.line, key=source.name) from None


def _printed(connection: Connection, declared: Declared) -> Normal:
    tables, functions, views = (
        {name.split(".", 1)[1]: name for name in names}
        for names in (
            declared.tables,
            (function.name for function in declared.functions),
            (view.name for view in declared.views),
        )
    )
    return Normal(
        policies={
            (tables[table.split(".", 1)[1]], name): policy
            for (table, name), policy in inspect.policies(connection, policy_schemas=[]).items()
        },
        functions={
            functions[name]: (arguments, definition.replace(f"pg_temp.{name}", functions[name], 1))
            for name, arguments, definition in connection.execute(PRINTED_FUNCTIONS)
        },
        views={views[name]: definition for name, definition in connection.execute(PRINTED_VIEWS)},
    )
