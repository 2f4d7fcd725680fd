"""Reads declared-state files into checked models; an error names file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dbkeep.errors import DeclaredError


class Model(BaseModel):
    """Base of every declared object: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


M = TypeVar("M", bound=BaseModel)
Lines = dict[tuple[str | int, ...], int]


def read_yaml(path: Path) -> tuple[Any, Lines]:
    """Return the content of a YAML file and the line number of every key path in it.

    Raises DeclaredError if the file is missing, is not YAML, or holds a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DeclaredError("file is missing", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DeclaredError(f"cannot be read: {error}", path=path) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DeclaredError(f"not valid YAML: {error.problem}", path=path, line=line) from None
    except yaml.YAMLError as error:
        raise DeclaredError(f"not valid YAML: {error}", path=path) from None
    lines: Lines = {}
    if root is not None:
        _collect_lines(root, (), lines, path)
    return value, lines


def _collect_lines(node: yaml.Node, at: tuple[str | int, ...], lines: Lines, path: Path) -> None:
    lines.setdefault(at, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            here = (*at, str(key_node.value))
            if here in lines:
                raise DeclaredError(
                    "the key stands twice", path=path, line=key_node.start_mark.line + 1, key=".".join(map(str, here))
                )
            lines[here] = key_node.start_mark.line + 1
            _collect_lines(value_node, here, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect_lines(item, (*at, index), lines, path)


def line_of(lines: Lines, location: tuple[str | int, ...]) -> int | None:
    """Return the line of the longest prefix of `location` that is in the file."""
    for length in range(len(location), -1, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return None


def read_model(path: Path, model: type[M]) -> M:
    """Return the file at `path` as a checked `model`.

    Raises DeclaredError with file, line and key of the first thing that is wrong.
    """
    value, lines = read_yaml(path)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(part for part in first["loc"])
        raise DeclaredError(
            first["msg"], path=path, line=line_of(lines, location), key=".".join(map(str, location)) or None
        ) from None
