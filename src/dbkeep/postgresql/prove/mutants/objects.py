"""Mutants of objects: owners, functions, views that see too much, and triggers."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from dbkeep.postgresql import statements
from dbkeep.postgresql.files import PINNED
from dbkeep.postgresql.prove.mutants.mutant import Function, Ground, Mutant
from dbkeep.postgresql.statements import Statement

VOLATILITY = {"i": "IMMUTABLE", "s": "STABLE", "v": "VOLATILE"}


def owners(ground: Ground) -> Iterator[Mutant]:
    """Yield each table, view, function and schema, and the database, owned by each role of an application."""
    for role in ground.logins():
        for relation in ground.columns:
            if not ground.uses(role, relation.split(".")[0]):
                continue
            kind = "TABLE" if relation in ground.tables else "VIEW"
            yield _owned(kind, relation, statements.qualified(relation), role)
        for function in ground.functions:
            if function.managed and ground.uses(role, function.name.split(".")[0]):
                yield _owned("FUNCTION", function.name, function.signature, role)
    for role in ground.logins():
        if ground.declared.roles[role].grants.schemas:
            for schema in ground.declared.scope.schemas:
                yield _owned("SCHEMA", schema, sql.Identifier(schema), role)
            words = sql.Literal(f"BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO {role}', current_database()); END")
            yield Mutant(
                f"database owned by {role}", "database owner", (sql.SQL("DO {}").format(words),),
                about=frozenset({role}),
            )  # fmt: skip


def _owned(kind: str, name: str, target: sql.Composable, role: str) -> Mutant:
    run = statements.set_owner(kind, target, role)
    return Mutant(
        f"{kind.lower()} {name} owned by {role}", f"{kind.lower()} owner", (run,), about=frozenset({name, role})
    )


def views(ground: Ground) -> Iterator[Mutant]:
    """Yield a view and a materialised view over each table that shows its rows to each role of an application."""
    for role in ground.logins():
        for schema in ground.declared.roles[role].grants.schemas:
            for table in ground.tables:
                for kind in ("VIEW", "MATERIALIZED VIEW"):
                    view = f"{schema}.leak"
                    run: tuple[Statement, ...] = (
                        sql.SQL("CREATE {} {} AS SELECT * FROM {}").format(
                            sql.SQL(kind), statements.qualified(view), statements.qualified(table)
                        ),
                        statements.grant(sql.SQL("SELECT"), "TABLE", statements.qualified(view), role),
                    )
                    name = f"{kind.lower()} over {table} in {schema} for {role}"
                    yield Mutant(name, f"{kind.lower()} over a table", run, about=frozenset({view, role}))
    for view in (view.name for view in ground.declared.views):
        run = (sql.SQL("ALTER VIEW {} SET (security_invoker = on)").format(statements.qualified(view)),)
        yield Mutant(f"{view} runs as its caller", "view option", run, about=frozenset({view}))


def functions(ground: Ground) -> Iterator[Mutant]:
    """Yield each function with another attribute, and each that answers yes or no answering yes."""
    for function in ground.functions:
        if function.managed:
            yield from _attributes(function)


def _attributes(function: Function) -> Iterator[Mutant]:
    if function.pinned:
        yield _function(function, "search_path unpinned", "RESET search_path")
    word = "INVOKER" if function.definer else "DEFINER"
    yield _function(function, f"function is SECURITY {word}", f"SECURITY {word}")
    for letter, volatility in VOLATILITY.items():
        # A trigger function's volatility is never looked at, and a set is never made a constant of a plan.
        same = function.volatility in (letter, "v") or (function.returns_set and letter == "i")
        if not same:
            yield _function(function, f"function {volatility}", volatility)
    yield _function(function, "function leakproof", "LEAKPROOF")
    if function.boolean:
        yield _answers_yes(function)


def _function(function: Function, kind: str, action: str) -> Mutant:
    alter = sql.SQL("ALTER FUNCTION {} {}").format(function.signature, sql.SQL(action))
    return Mutant(f"{function.name}: {kind}", kind, (alter,), about=frozenset({function.name}))


def _answers_yes(function: Function) -> Mutant:
    run = sql.SQL("CREATE OR REPLACE FUNCTION {} RETURNS boolean LANGUAGE sql STABLE{} {} AS 'SELECT true'").format(
        sql.SQL(f"{function.name}({function.parameters})"),
        sql.SQL(" SECURITY DEFINER" if function.definer else ""),
        sql.SQL(PINNED if function.pinned else ""),
    )
    return Mutant(f"{function.name} says true", "function says true", (run,), about=frozenset({function.name}))


def triggers(ground: Ground) -> Iterator[Mutant]:
    """Yield each trigger disabled."""
    for table, trigger in ground.triggers:
        alter = sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(
            statements.qualified(table), sql.Identifier(trigger)
        )
        yield Mutant(f"{trigger} disabled", "trigger disabled", (alter,), about=frozenset({table}))
