"""Reads extensions, and the objects of every kind that has no room of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dbkeep.postgresql.connect import Connection
from dbkeep.postgresql.inspect import catalog_others


@dataclass(frozen=True, slots=True)
class LiveExtension:
    """`version` and `schema` are None when it is not installed, `default` when the server has no files of it."""

    version: str | None
    schema: str | None
    default: str | None


@dataclass(frozen=True, slots=True, order=True)
class LiveObject:
    """An object as pg_identify_object names it, such as ("rule", "notify on chat.users").

    `number` grows with time: what uses an object has a higher one.
    """

    kind: str
    identity: str
    owner: str
    in_schema: bool = False
    number: int = field(default=0, compare=False)

    @property
    def name(self) -> str:
        return f"{self.kind} {self.identity}"


@dataclass(frozen=True, slots=True)
class Others:
    """`objects` are in the managed scope; `owned_elsewhere` are outside and belong to managed roles."""

    extensions: dict[str, LiveExtension] = field(default_factory=dict)
    objects: frozenset[LiveObject] = frozenset()
    owned_elsewhere: frozenset[LiveObject] = frozenset()


def read(connection: Connection, which: dict[str, Any]) -> Others:
    """Return what catalog_others finds with the parameters `which`."""
    return Others(
        extensions={
            name: LiveExtension(version, schema, default)
            for name, version, schema, default in connection.execute(catalog_others.EXTENSIONS, which)
        },
        objects=frozenset(LiveObject(*row) for row in connection.execute(catalog_others.OTHERS, which)),
        owned_elsewhere=frozenset(
            LiveObject(*row) for row in connection.execute(catalog_others.OWNED_ELSEWHERE, which)
        ),
    )
