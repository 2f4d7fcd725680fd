"""Whether two row-security expressions let the same rows through, decided by trying every truth value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product

Truth = bool | None
Rename = Callable[[str], str]


class Formula:
    """An expression as the server prints it: AND, OR and NOT are understood, everything else is an opaque atom."""

    def __init__(self, operator: str, parts: tuple[Formula, ...] = (), atom: str = "") -> None:
        self.operator, self.parts, self.atom = operator, parts, atom

    def atoms(self) -> Iterator[str]:
        if self.operator == "atom":
            yield self.atom
        for part in self.parts:
            yield from part.atoms()

    def renamed(self, rename: Rename) -> Formula:
        return Formula(self.operator, tuple(part.renamed(rename) for part in self.parts), rename(self.atom))

    def value(self, of: Mapping[str, Truth]) -> Truth:
        """Return true, false or NULL, as SQL does."""
        if self.operator == "atom":
            return of[self.atom]
        if self.operator == "not":
            inner = self.parts[0].value(of)
            return None if inner is None else not inner
        ends, values = self.operator == "or", [part.value(of) for part in self.parts]
        return ends if ends in values else None if None in values else not ends


TRUE, FALSE = Formula("and"), Formula("or")


def both(*parts: Formula) -> Formula:
    return Formula("and", parts)


def either(*parts: Formula) -> Formula:
    return Formula("or", parts)


def parse(text: str) -> Formula:
    """Return the formula of an expression printed by pg_get_expr, which puts every AND and OR in parentheses."""
    text = text.strip()
    if text == "true":
        return TRUE
    if text == "false":
        return FALSE
    if not _enclosed(text):
        return Formula("atom", atom=text)
    inner = text[1:-1]
    if inner.startswith("NOT "):
        return Formula("not", (parse(inner[4:]),))
    for word, operator in ((" OR ", "or"), (" AND ", "and")):
        parts = _split(inner, word)
        if len(parts) > 1:
            return Formula(operator, tuple(map(parse, parts)))
    return parse(inner) if _enclosed(inner) else Formula("atom", atom=inner)


def same(one: Formula, other: Formula) -> bool:
    """Return whether both are true for the same rows; NULL lets no row through."""
    atoms = sorted({*one.atoms(), *other.atoms()})
    for values in product((True, False, None), repeat=len(atoms)):
        of = dict(zip(atoms, values, strict=True))
        if (one.value(of) is True) != (other.value(of) is True):
            return False
    return True


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Yield each position outside a quoted piece, with how many parentheses are open after it."""
    depth, quoted = 0, ""
    for at, character in enumerate(text):
        if quoted:
            quoted = "" if character == quoted else quoted
            continue
        if character in "'\"":
            quoted = character
            continue
        depth += {"(": 1, ")": -1}.get(character, 0)
        yield at, depth


def _enclosed(text: str) -> bool:
    """Return whether the first parenthesis closes at the very end."""
    closes = next((at for at, depth in _depths(text) if depth == 0), None) if text.startswith("(") else None
    return closes == len(text) - 1


def _split(text: str, word: str) -> list[str]:
    # BETWEEN has an AND of its own; pg_get_expr prints it as two comparisons, so that every AND left is a conjunction.
    cuts = [at for at, depth in _depths(text) if depth == 0 and text.startswith(word, at)]
    starts = [0, *(cut + len(word) for cut in cuts)]
    return [text[start:end] for start, end in zip(starts, [*cuts, len(text)], strict=True)]
