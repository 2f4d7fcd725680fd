"""Mutants of functions: a library gone, one that lets everything through, one with something more, one more."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbkeep.redis.prove.mutants.mutant import Mutant
from dbkeep.redis.prove.world import World

KIND, SAME, COMMENTED = "function library", "other text of a function", "with a comment more"
READS_ANYTHING = "redis.register_function('dbkeep_probe', function(keys, args) return redis.call('GET', args[1]) end)\n"
OTHER = f"#!lua name=dbkeep_probe\n{READS_ANYTHING}"


def libraries(world: World) -> Iterator[Mutant]:
    """Yield each declared library removed and replaced, and one that nobody declared."""
    for instance, declared in world.declared.instances.instances.items():
        for library in world.declared.libraries:
            if library.name not in declared.functions:
                continue
            yield _mutant(instance, f"{library.name} removed", "FUNCTION", "DELETE", library.name)
            yield _mutant(instance, "all functions removed", "FUNCTION", "FLUSH")
            for what, code in _replaced(library.code):
                kind = SAME if what == COMMENTED else KIND
                yield _mutant(instance, f"{library.name} {what}", "FUNCTION", "LOAD", "REPLACE", code, kind=kind)
        yield _mutant(instance, "a library added", "FUNCTION", "LOAD", OTHER)


def _replaced(code: str) -> Iterator[tuple[str, str]]:
    names = re.findall(r"""register_function\s*\(\s*['"](\w+)['"]""", code)
    yield "with a function more", f"{code}\n{READS_ANYTHING}"
    yield COMMENTED, f"{code}\n-- probe\n"
    stubs = "".join(f"redis.register_function('{name}', function() return {{1, 9, 0, 0}} end)\n" for name in names)
    yield "lets everything through", f"{code.splitlines()[0]}\n{stubs}"
    refusals = stubs.replace("{1, 9", "{0, 0")
    yield "lets nothing through", f"{code.splitlines()[0]}\n{refusals}"


def _mutant(instance: str, what: str, *words: str, kind: str = KIND) -> Mutant:
    return Mutant(f"{instance} {what}", kind, ((instance, *words),), about=frozenset({instance}))
