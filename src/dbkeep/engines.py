"""The three engines by name; each package has the same face."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import BaseModel

from dbkeep.errors import UsageError
from dbkeep.plan import Change, Plan
from dbkeep.settings import MongoDBSettings, PostgreSQLSettings, RedisSettings, Settings, read_settings

NAMES = ("postgresql", "mongodb", "redis")
SETTINGS: dict[str, type[Settings]] = {
    "postgresql": PostgreSQLSettings,
    "mongodb": MongoDBSettings,
    "redis": RedisSettings,
}
# Inventory variables that go before what the files declare, by engine: each with the keyword of its read_declared.
OVERRIDES: dict[str, dict[str, str]] = {"postgresql": {"postgresql_context": "context"}}


class Engine(Protocol):
    """What dbkeep.postgresql, dbkeep.mongodb and dbkeep.redis each offer."""

    Declared: type[BaseModel]

    def read_declared(self, root: Path, **overrides: Any) -> BaseModel: ...
    def users(self, declared: Any) -> list[str]: ...
    def plan(self, settings: Any, declared: Any, secrets: Mapping[str, str], **options: Any) -> Plan: ...
    def apply(
        self,
        settings: Any,
        declared: Any,
        secrets: Mapping[str, str],
        *,
        allow_destructive: bool = ...,
        on_change: Callable[[Change], None] = ...,
        **options: Any,
    ) -> tuple[Change, ...]: ...
    def version(self, settings: Any) -> str: ...
    def counts(self, settings: Any) -> dict[str, int]: ...


def engine(name: str) -> Engine:
    """Return the engine called `name`; raises UsageError for any other name."""
    if name not in NAMES:
        raise UsageError(f"there is no engine {name!r}; the engines are {', '.join(NAMES)}")
    return cast(Engine, importlib.import_module(f"dbkeep.{name}"))


def declared_state(name: str, root: Path, variables: Mapping[str, Any]) -> BaseModel:
    """Return what `root` declares for the engine `name` in an environment with these inventory variables.

    Raises DeclaredError or UsageError naming what is wrong and where.
    """
    overrides = {key: variables[variable] for variable, key in OVERRIDES.get(name, {}).items() if variable in variables}
    return engine(name).read_declared(root, **overrides)


def engine_settings(name: str) -> Settings | None:
    """Return how this host reaches the engine `name`, or None when the engine is not on this host."""
    return read_settings(name, SETTINGS[name])


def required_settings(name: str) -> Settings:
    """Return how this host reaches the engine `name`; raises UsageError when it is not on this host."""
    settings = engine_settings(name)
    if settings is None:
        raise UsageError(f"{name} is not on this host (no /etc/dbkeep/agent.d/{name}.json); run playbooks/site.yml")
    return settings
