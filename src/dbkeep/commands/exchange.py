"""How controller and agent talk: a JSON request on standard input, a JSON answer on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any

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
