"""Every way to break servers that are as declared that we can derive from what is declared."""

from __future__ import annotations

from dbkeep.redis.prove.mutants import functions, logons, rights, settings
from dbkeep.redis.prove.mutants.mutant import Mutant
from dbkeep.redis.prove.world import World

__all__ = ["LATENT", "LIKELY", "Mutant", "generate"]

SOURCES = (
    rights.patterns, rights.commands, rights.categories, rights.channels, rights.selectors, rights.taken,
    logons.users, logons.passwords, logons.default, settings.server_defaults, settings.worse, settings.network,
    functions.libraries,
)  # fmt: skip

LATENT = frozenset(
    {
        "another password added", "payload check skipped", "undeclared user", rights.NO_USE, functions.SAME,
        settings.LATENT,
    }
)  # fmt: skip
"""Kinds that no attempt notices, or few: about these the catalogs are asked first."""

LIKELY = {
    **dict.fromkeys(
        ("pattern added", "pattern widened", "command added", "category added", "selector added"), ("P10",)
    ),
    **dict.fromkeys(("channel added", "rights taken", "reading becomes writing"), ("P10",)),
    **dict.fromkeys(("user added", "user off", "user removed", "password"), ("P03",)),
    "default user on": ("P02", "P01"),
    "function library": ("P31", "P30"),
    **settings.TRIED,
}


def generate(world: World) -> tuple[Mutant, ...]:
    """Return the mutants in a fixed order, with names that differ. It grows with the declared state."""
    return tuple(mutant for source in SOURCES for mutant in source(world))
