"""Differences of functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dbkeep.plan import Change, Risk
from dbkeep.postgresql import statements
from dbkeep.postgresql.change import MANAGED, change
from dbkeep.postgresql.inspect import Live, LiveFunction
from dbkeep.postgresql.models import Declared, Routine

# pg_proc.prokind as DDL spells it.
KINDS: Mapping[str, str] = {"f": "FUNCTION", "w": "FUNCTION", "p": "PROCEDURE", "a": "AGGREGATE"}


@dataclass(frozen=True, slots=True)
class Functions:
    """What is callable in the schemas. `normal` are the declared functions as the server prints them."""

    declared: Declared
    live: Live
    normal: Mapping[str, tuple[str, str]]

    def recreated(self) -> frozenset[str]:
        """Names of the functions that a change creates, with their grants."""
        return frozenset(
            function.name
            for function in self.declared.functions
            if (have := self._standing(function)) is None or self._must_go(function, have)
        )

    def changes(self, *, trigger: bool) -> Iterator[Change]:
        """Declared functions: trigger functions alone, or all others."""
        for function in self.declared.functions:
            if function.trigger is not trigger:
                continue
            have = self._standing(function)
            if have is None or self._must_go(function, have):
                yield self._create(function, have)
            else:
                yield from self._alter(function, have)

    def undeclared(self) -> Iterator[tuple[int, Change]]:
        """Functions in the managed schemas that nothing declares, with their numbers."""
        for function in self.live.functions:
            if function.managed and not self._is_declared(function):
                yield function.number, change(
                    "function", function.signature, "drop: not declared", _drop(function),
                    before=function.definition, risk=Risk.DESTRUCTIVE, database=MANAGED,
                )  # fmt: skip

    def _standing(self, function: Routine) -> LiveFunction | None:
        """The live function with the name and argument types, or of the name alone when the types are not known yet."""
        arguments, _ = self.normal.get(function.name, (None, None))
        named = (have for have in self.live.functions if have.name == function.name)
        return next((have for have in named if arguments in (None, have.arguments)), None)

    def _must_go(self, function: Routine, have: LiveFunction) -> bool:
        """CREATE OR REPLACE can change everything but the head: kind, parameter names and result."""
        _, definition = self.normal.get(function.name, (None, None))
        return definition is not None and _head(have.definition) != _head(definition)

    def _create(self, function: Routine, instead_of: LiveFunction | None) -> Change:
        _, definition = self.normal.get(function.name, (None, None))
        executors = [name for name, role in self.declared.roles.items() if function.name in role.grants.functions]
        create = statements.create_function(function, self._owner(function), executors)
        if instead_of is None:
            return change(
                "function", function.name, "create", *create, after=function.sql, database=MANAGED,
                where=_where(function),
            )  # fmt: skip
        return change(
            "function", function.name, "drop and create: kind, parameter names or result differ", _drop(instead_of),
            *create, before=instead_of.definition, after=definition, risk=Risk.LOCKING, database=MANAGED,
            where=_where(function),
        )  # fmt: skip

    def _alter(self, function: Routine, have: LiveFunction) -> Iterator[Change]:
        _, definition = self.normal.get(function.name, (None, None))
        if have.definition != definition:
            yield change(
                "function", function.name, "replace", statements.written(function.sql),
                before=have.definition, after=definition or function.sql, database=MANAGED, where=_where(function),
            )  # fmt: skip
        owner = self._owner(function)
        if have.owner != owner:
            target = statements.signature(have.name, have.arguments)
            yield change(
                "function", have.signature, "change owner", statements.set_owner("FUNCTION", target, owner),
                before={"owner": have.owner}, after={"owner": owner}, database=MANAGED,
            )  # fmt: skip

    def _owner(self, function: Routine) -> str:
        scope = self.declared.scope
        return scope.definer if function.security_definer else scope.owner

    def _is_declared(self, function: LiveFunction) -> bool:
        if function.name not in {declared.name for declared in self.declared.functions}:
            return False
        # What the server could not resolve has no known signature: only a name that is declared can be kept then.
        arguments, _ = self.normal.get(function.name, (function.arguments, ""))
        return arguments == function.arguments


def _head(definition: str | None) -> str | None:
    return definition.split("\n LANGUAGE ", 1)[0] if definition else None


def _drop(function: LiveFunction) -> statements.Statement:
    return statements.drop(KINDS[function.kind], statements.signature(function.name, function.arguments))


def _where(function: Routine) -> str:
    return f"{function.path}:{function.line}"
