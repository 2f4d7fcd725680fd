"""Mutants of privileges: on relations, columns, functions, schemas, databases, and on what is made later."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from dbkeep.postgresql import statements
from dbkeep.postgresql.prove.mutants.mutant import Function, Ground, Mutant
from dbkeep.postgresql.statements import Statement

TABLE_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
MAINTAIN_SINCE = 170000
DATABASE_PRIVILEGES = ("CONNECT", "TEMPORARY", "CREATE")


def relations(ground: Ground) -> Iterator[Mutant]:
    """Yield each declared privilege taken, widened to the table or with grant option, and each other one granted."""
    for role, declared in ground.declared.roles.items():
        if role == ground.declared.scope.owner:
            continue
        for relation, allowed in declared.grants.relations.items():
            if relation not in ground.columns:
                continue
            for command, columns in allowed.items():
                yield _taken(role, relation, command, columns)
                # A grant on every column one by one is the grant on the table, until a column is added.
                if columns != "all" and set(columns) != set(ground.columns[relation]):
                    yield _grant("columns widened to the table", command, relation, role)
                if declared.login:
                    what = statements.privileges([(command, () if columns == "all" else columns)])
                    yield _grant("grant option", what, relation, role, option=True, word=command)
        for relation in ground.columns:
            yield from _added(ground, role, relation)


def _taken(role: str, relation: str, command: str, columns: str | tuple[str, ...]) -> Mutant:
    what = statements.privileges([(command, () if columns == "all" else tuple(columns))])
    revoke = statements.revoke(what, "TABLE", statements.qualified(relation), role, only_option=False)
    return Mutant(
        f"{command} on {relation} taken from {role}", "grant taken", (revoke,), about=frozenset({relation, role})
    )


def _grant(
    kind: str, what: str | sql.Composable, relation: str, role: str, *, option: bool = False, word: str = "",
    before: tuple[Statement, ...] = (),
) -> Mutant:  # fmt: skip
    privilege = sql.SQL(what) if isinstance(what, str) else what
    run = statements.grant(privilege, "TABLE", statements.qualified(relation), role)
    if option:
        run += sql.SQL(" WITH GRANT OPTION")
    name = f"{kind}: {word or what} on {relation} to {role}"
    return Mutant(name, kind, (*before, run), about=frozenset({relation, role}))


def _added(ground: Ground, role: str, relation: str) -> Iterator[Mutant]:
    """Privileges that the role is not declared to have on the relation.

    A privilege on an object in a schema that the role has no USAGE on gives it nothing: the mutant is both.
    A NOLOGIN role other than the definer is nobody. Views have no rows of their own: only reading them counts.
    """
    declared = ground.declared.roles[role]
    scope = ground.declared.scope
    schema = relation.split(".", 1)[0]
    is_table = relation in ground.tables
    wanted = (
        [*TABLE_PRIVILEGES, *(["MAINTAIN"] if ground.live.version >= MAINTAIN_SINCE else [])]
        if is_table
        else ["SELECT"]
    )
    # The definer owns the views. What it may do with tables is only what its functions do: nobody acts as it.
    if not declared.login:
        return
    usage: tuple[Statement, ...] = ()
    if not ground.uses(role, schema):
        usage = (sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(role)),)
    for privilege in wanted:
        if ground.granted(role, relation, privilege):
            continue
        # A role that reads everything reads no more with the privilege.
        if privilege == "SELECT" and "pg_read_all_data" in declared.member_of:
            continue
        # It can become the owner of everything, on purpose; what it has before that is what counts.
        if scope.owner in declared.member_of and not usage:
            continue
        yield _grant(f"{privilege} granted", privilege, relation, role, before=usage)


def functions(ground: Ground) -> Iterator[Mutant]:
    """Yield each function open to PUBLIC and to each role that it is not declared for, and taken from those it is."""
    for function in ground.functions:
        target, about = function.signature, {function.name}
        execute = sql.SQL("EXECUTE")
        if function.managed:
            yield Mutant(
                f"{function.name} open to PUBLIC", "function open to PUBLIC",
                (statements.grant(execute, "FUNCTION", target, "PUBLIC"),), about=frozenset({*about, "PUBLIC"}),
            )  # fmt: skip
            yield from _executors(ground, function)
        else:
            yield Mutant(
                f"{target.as_string(None)} open to PUBLIC", "closed function opened",
                (statements.grant(execute, "FUNCTION", target, "PUBLIC"),), about=frozenset({*about, "PUBLIC"}),
            )  # fmt: skip


def _executors(ground: Ground, function: Function) -> Iterator[Mutant]:
    schema = function.name.split(".")[0]
    for role, declared in ground.declared.roles.items():
        if role == ground.declared.scope.owner or not ground.uses(role, schema):
            continue
        about = frozenset({function.name, role})
        if function.name in declared.grants.functions:
            revoke = statements.revoke(sql.SQL("EXECUTE"), "FUNCTION", function.signature, role, only_option=False)
            yield Mutant(f"{function.name} taken from {role}", "function taken", (revoke,), about=about)
        elif declared.login:
            grant = statements.grant(sql.SQL("EXECUTE"), "FUNCTION", function.signature, role)
            yield Mutant(f"{function.name} granted to {role}", "function granted", (grant,), about=about)


def schemas(ground: Ground) -> Iterator[Mutant]:
    """Yield USAGE and CREATE on each schema for each role without it, and CREATE for PUBLIC."""
    scope = ground.declared.scope
    for schema in scope.managed_schemas:
        for role in ground.logins():
            held = ground.declared.roles[role].grants.schemas.get(schema, ())
            for privilege in ("USAGE", "CREATE"):
                if privilege not in held and not (privilege == "USAGE" and ground.uses(role, schema)):
                    yield _on_schema(privilege, schema, role, "schema granted")
    for schema in (*scope.schemas, *scope.closed_to_public.schemas):
        for privilege in ("USAGE", "CREATE"):
            yield _on_schema(privilege, schema, "PUBLIC", "schema open to PUBLIC")


def _on_schema(privilege: str, schema: str, role: str, kind: str) -> Mutant:
    grant = statements.grant(sql.SQL(privilege), "SCHEMA", sql.Identifier(schema), role)
    return Mutant(f"{privilege} on schema {schema} to {role}", kind, (grant,), about=frozenset({schema, role}))


def databases(ground: Ground) -> Iterator[Mutant]:
    """Yield privileges on the managed database for PUBLIC and roles, and on the closed ones for PUBLIC."""
    scope = ground.declared.scope
    for privilege in DATABASE_PRIVILEGES:
        yield _on_this_database(f"GRANT {privilege} ON DATABASE %I TO", "PUBLIC", "database open to PUBLIC")
        for role in ground.logins():
            if privilege in ground.declared.roles[role].grants.database:
                yield _on_this_database(f"REVOKE {privilege} ON DATABASE %I FROM", role, "database taken")
            else:
                yield _on_this_database(f"GRANT {privilege} ON DATABASE %I TO", role, "database granted")
        for database in scope.closed_to_public.databases:
            yield _closed_database(privilege, database)


def _on_this_database(words: str, role: str, kind: str) -> Mutant:
    """Privileges on a database are in a catalog that all share, but they are the copy's and go with it."""
    run = sql.SQL("DO {}").format(
        sql.Literal(f"BEGIN EXECUTE format('{words} {role}', current_database()); END")
    )  # fmt: skip
    return Mutant(f"{words.replace(' %I', '')} {role}", kind, (run,), about=frozenset({role}))


def _closed_database(privilege: str, database: str) -> Mutant:
    what, target = sql.SQL(privilege), sql.Identifier(database)
    kind = "closed database opened" if privilege == "CONNECT" else "privilege on a closed database"
    return Mutant(
        f"{privilege} on database {database} to PUBLIC", kind,
        (statements.grant(what, "DATABASE", target, "PUBLIC"),),
        (statements.revoke(what, "DATABASE", target, "PUBLIC", only_option=False),),
        about=frozenset({database, "PUBLIC"}),
    )  # fmt: skip


def defaults(ground: Ground) -> Iterator[Mutant]:
    """Yield what the owner would give away on every table and function that it makes later.

    The definer may create nothing in a schema, and a role that cannot use a schema gains nothing in it.
    """
    scope = ground.declared.scope
    for kind, privilege in (("TABLES", "SELECT"), ("FUNCTIONS", "EXECUTE")):
        for grantee in ("PUBLIC", *ground.logins()):
            usable = [name for name in scope.schemas if grantee == "PUBLIC" or ground.uses(grantee, name)]
            for schema in ("", *usable) if usable else ():
                where = sql.SQL("IN SCHEMA {} ").format(sql.Identifier(schema)) if schema else sql.SQL("")
                run = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {}GRANT {} ON {} TO {}").format(
                    sql.Identifier(scope.owner), where, sql.SQL(privilege), sql.SQL(kind), statements.grantee(grantee)
                )
                name = f"default {privilege} on {kind.lower()} to {grantee}{f' in {schema}' if schema else ''}"
                yield Mutant(name, "default privilege", (run,), about=frozenset({grantee}))
