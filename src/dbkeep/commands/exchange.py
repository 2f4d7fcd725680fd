"""How controller and agent talk: a JSON request on standard input, a JSON answer on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any, TypeVar

import click
from pydantic import BaseModel, ConfigDict, ValidationError

from dbkeep.errors import UsageError


def read_request() -> dict[str, Any]:
    """Return the JSON object on standard input; raises UsageError when there is none."""
    try:
        request = json.load(sys.stdin)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise UsageError("the agent expects one JSON object on standard input")
    return request


def answer(result: dict[str, Any]) -> None:
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


R = TypeVar("R", bound=Request)


def request(model: type[R]) -> R:
    """Return the request on standard input as `model`; raises UsageError naming the key that is wrong, no value."""
    try:
        return model.model_validate(read_request())
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise UsageError(f"the request's {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def progress(line: str) -> None:
    click.echo(line, err=True)
