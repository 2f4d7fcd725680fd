"""A string that matches a regular expression, for the patterns that a schema declares."""

from __future__ import annotations

import importlib
import random
import re
import string
from functools import cache
from typing import Any

# The standard library's own parser of regular expressions; Python has no public one.
_parser: Any = importlib.import_module("re._parser")
MOST_REPEATED = 3
CATEGORIES = {
    "CATEGORY_DIGIT": string.digits,
    "CATEGORY_WORD": string.ascii_letters + string.digits,
    "CATEGORY_SPACE": " ",
}
ANY = string.ascii_lowercase + string.digits


def matching(pattern: str, chance: random.Random) -> str:
    """Return a string in which `pattern` is found. Raises ValueError for what is not built here (look-ahead)."""
    found = "".join(_text(part, chance) for part in _parsed(pattern))
    if not re.search(pattern, found):
        raise ValueError(f"no string was made for the pattern {pattern}")
    return found


@cache
def _parsed(pattern: str) -> list[tuple[Any, Any]]:
    return list(_parser.parse(pattern))


def _text(part: tuple[Any, Any], chance: random.Random) -> str:
    kind, value = str(part[0]), part[1]
    inner: list[Any] = []
    match kind:
        case "LITERAL":
            return chr(value)
        case "IN":
            return chance.choice(_class(tuple(value)))
        case "ANY" | "NOT_LITERAL":
            return chance.choice(ANY)
        case "SUBPATTERN":
            inner = list(value[-1])
        case "BRANCH":
            inner = list(chance.choice(value[1]))
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, repeated = value
            inner = list(repeated) * chance.randint(least, min(int(most), least + MOST_REPEATED))
        case "AT":
            pass
        case _:
            raise ValueError(f"no string is made for {kind} in a pattern")
    return "".join(_text(one, chance) for one in inner)


@cache
def _class(members: tuple[tuple[Any, Any], ...]) -> str:
    if str(members[0][0]) == "NEGATE":
        return "".join(letter for letter in ANY if letter not in _class(members[1:])) or " "
    found = ""
    for kind, value in members:
        if str(kind) == "RANGE":
            found += "".join(map(chr, range(value[0], value[1] + 1)))
        else:
            found += chr(value) if str(kind) == "LITERAL" else CATEGORIES.get(str(value), "")
    if not found:
        raise ValueError("no string is made for a class of a pattern")
    return found
