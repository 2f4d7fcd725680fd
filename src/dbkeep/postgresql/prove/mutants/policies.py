"""Mutants of row security: policies dropped, loosened and widened, and the flags of tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from psycopg import sql

from dbkeep.postgresql import statements
from dbkeep.postgresql.inspect import LivePolicy
from dbkeep.postgresql.prove.mutants import logic
from dbkeep.postgresql.prove.mutants.logic import Formula
from dbkeep.postgresql.prove.mutants.mutant import Ground, Mutant
from dbkeep.postgresql.statements import Statement

Key = tuple[str, str]
Policies = Mapping[Key, LivePolicy]
COMMANDS = ("SELECT", "INSERT", "UPDATE", "DELETE")


def policies(ground: Ground) -> Iterator[Mutant]:
    """Yield every change of one policy that lets through other rows than before."""
    live = ground.live.policies
    for key, policy in sorted(live.items()):
        for kind, changed in _variants(ground, policy):
            mutated = {**live, key: changed} if changed else {other: live[other] for other in live if other != key}
            if _equivalent(ground, key[0], live, mutated):
                continue
            yield _mutant(kind, key, policy, changed)


def flags(ground: Ground) -> Iterator[Mutant]:
    """Yield each table with row security off, and with its owner exempt from it."""
    for table in ground.tables:
        target = statements.qualified(table)
        for kind, action in (
            ("row security disabled", "DISABLE ROW LEVEL SECURITY"),
            ("row security not forced", "NO FORCE ROW LEVEL SECURITY"),
        ):
            alter = sql.SQL("ALTER TABLE {} {}").format(target, sql.SQL(action))
            yield Mutant(f"{kind} on {table}", kind, (alter,), about=frozenset({table}))


def _variants(ground: Ground, policy: LivePolicy) -> Iterator[tuple[str, LivePolicy | None]]:
    word = "policy" if policy.permissive else "restrictive policy"
    yield f"{word} dropped", None
    writes = policy.command in ("ALL", "INSERT", "UPDATE")
    # A policy without a WITH CHECK of its own uses its USING for both.
    check = policy.check or policy.using if writes else None
    if policy.using not in (None, "true"):
        yield f"{word}: USING (true)", replace(policy, using="true", check=check)
    if check not in (None, "true"):
        yield f"{word}: WITH CHECK (true)", replace(policy, check="true")
    if not policy.permissive:
        yield "restrictive policy made permissive", replace(policy, permissive=True)
    if policy.command != "ALL":
        expression = policy.using or policy.check
        yield f"{word} for ALL", replace(policy, command="ALL", using=expression, check=policy.check or expression)
    else:
        for command in COMMANDS:
            using = None if command == "INSERT" else policy.using
            check = policy.check if command in ("INSERT", "UPDATE") else None
            yield f"{word} for {command} only", replace(policy, command=command, using=using, check=check)
    yield f"{word} to PUBLIC", replace(policy, roles=("public",))
    for role in ground.declared.roles:
        # The owner is one of PUBLIC, and has every privilege.
        if role not in policy.roles and role != ground.declared.scope.owner:
            yield f"{word} to {role} too", replace(policy, roles=(*policy.roles, role))


def _mutant(kind: str, key: Key, policy: LivePolicy, changed: LivePolicy | None) -> Mutant:
    table, name = key
    run: list[Statement] = [statements.drop_policy(table, name)]
    if changed is not None:
        run.append(_create(table, name, changed))
    short = "policy to another role" if kind.endswith(" too") else kind
    short = "restrictive policy for one command" if kind.endswith(" only") else short
    roles = changed.roles if changed else policy.roles
    return Mutant(f"{kind}: {name} on {table}", short, tuple(run), about=frozenset({table, *roles}))


def _create(table: str, name: str, policy: LivePolicy) -> Statement:
    clauses = [
        sql.SQL(f"{word} ({expression})")
        for word, expression in (("USING", policy.using), ("WITH CHECK", policy.check))
        if expression is not None
    ]
    return sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {} {}").format(
        sql.Identifier(name), statements.qualified(table),
        sql.SQL("PERMISSIVE" if policy.permissive else "RESTRICTIVE"), sql.SQL(policy.command),
        sql.SQL(", ").join(sql.SQL("PUBLIC") if role == "public" else sql.Identifier(role) for role in policy.roles),
        sql.SQL(" ").join(clauses),
    )  # fmt: skip


def _equivalent(ground: Ground, table: str, before: Policies, after: Policies) -> bool:
    """Whether no role that has a privilege on the table, and not its owner, could tell the difference.

    A policy for a command that a role has no privilege for is never asked. A WITH CHECK of an UPDATE is asked only for
    rows that USING let through, so where the columns it names cannot be changed it cannot refuse what USING allowed.
    (Functions in policies are STABLE: they see the table as it was before the statement.)
    """
    for role, declared in ground.declared.roles.items():
        if declared.bypass_row_security:
            continue
        for command in COMMANDS:
            owns = role == ground.declared.scope.owner
            columns = ground.columns[table] if owns else ground.granted(role, table, command)
            if not columns:
                continue
            one, other = (_applying(policies, role, command, table) for policies in (before, after))
            if not _same_rows(one, other, command, columns):
                return False
    return True


def _same_rows(one: list[LivePolicy], other: list[LivePolicy], command: str, writable: Collection[str]) -> bool:
    """Whether both sets of policies let the same rows through. `writable` are the columns that can be written."""

    def written(atom: str) -> str:
        """For the new row of an UPDATE an atom has another value where a column in it can be changed."""
        return f"new row: {atom}" if any(re.search(rf"\b{column}\b", atom) for column in writable) else atom

    reads, writes = ([_lets_through(side, command, reads=reads) for side in (one, other)] for reads in (True, False))
    if command == "UPDATE":
        writes = [logic.both(read, write.renamed(written)) for read, write in zip(reads, writes, strict=True)]
    return logic.same(*reads) and logic.same(*writes)


def _applying(policies: Policies, role: str, command: str, table: str) -> list[LivePolicy]:
    return [
        policy for (on, _), policy in policies.items()
        if on == table and policy.command in (command, "ALL") and (role in policy.roles or "public" in policy.roles)
    ]  # fmt: skip


def _lets_through(policies: list[LivePolicy], command: str, *, reads: bool) -> Formula:
    """What USING (`reads`) or WITH CHECK ask of a row; a side that the command does not have asks nothing."""
    if command == "INSERT" if reads else command in ("SELECT", "DELETE"):
        return logic.TRUE
    permissive, restrictive = (
        [logic.parse(text) for text in (_side(p, reads) for p in policies if p.permissive is kind) if text is not None]
        for kind in (True, False)
    )
    return logic.both(logic.either(*permissive), *restrictive)


def _side(policy: LivePolicy, reads: bool) -> str | None:
    return policy.using if reads else policy.check or policy.using
