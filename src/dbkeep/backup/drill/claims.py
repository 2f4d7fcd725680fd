"""What an environment declares of an engine, and which leaks it accepts: what a drill's copy is attacked against.

The declared state lies on the controller, the copies are on another host: a claim is what goes from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from dbkeep.declared import Model
from dbkeep.engines import OVERRIDES, declared_state, engine
from dbkeep.errors import UsageError
from dbkeep.prove import engine as proofs
from dbkeep.prove.budget import Budget, Leak

_OF_ANY_ENGINE = set(Leak.model_fields)


class Claim(Model):
    """`declared` is what `dbkeep.ENGINE.Declared` reads, `leaks` are those of the engine's leak budget."""

    declared: dict[str, Any]
    leaks_file: Path
    leaks: dict[str, Leak] = Field(default={})


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was read: the engine's own model of the declared state, and the leak budget."""

    declared: Any
    budget: Budget


def claims(root: Path, variables: Mapping[str, Any], engines: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return, as JSON, what `root` claims of `engines` in an environment with these inventory variables.

    Raises DeclaredError or UsageError naming what is wrong and where.
    """
    found = {}
    for name in engines:
        options = {key: variables.get(variable) for variable, key in OVERRIDES.get(name, {}).items()}
        budget = proofs.load(name, root, None, options).budget()
        found[name] = {
            "declared": declared_state(name, root, variables).model_dump(mode="json"),
            "leaks_file": str(budget.file),
            "leaks": {key: leak.model_dump(mode="json", include=_OF_ANY_ENGINE) for key, leak in budget.leaks.items()},
        }
    return found


def read_claims(given: Mapping[str, Any]) -> dict[str, Claimed]:
    """Return what `claims` made, checked. Raises UsageError naming engine and key."""
    found = {}
    for name, document in given.items():
        try:
            claim = Claim.model_validate(document)
            model: type[BaseModel] = engine(name).Declared
            found[name] = Claimed(model.model_validate(claim.declared), Budget(claim.leaks_file, claim.leaks))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            raise UsageError(f"the claim about {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return found
