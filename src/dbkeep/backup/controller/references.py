"""Compares the references between the stores of an environment, whose engines may be on different hosts."""

from __future__ import annotations

from typing import Any

from dbkeep.backup.controller.sets import Placed
from dbkeep.backup.restore.references import REFERENCES, Page, Reference, as_json, compare
from dbkeep.environment import Host
from dbkeep.errors import DbkeepError
from dbkeep.remote import call


def check_references(engines_of: Placed) -> dict[str, Any]:
    """Return for every place that names users how many of them do not exist, with examples, and `dangling` in all.

    One host with all engines compares them itself; else the ids go through here, a page at a time.
    Raises DbkeepError when an engine does not answer.
    """
    where = {engine: host for host, engines in engines_of.items() for engine in engines}
    if "postgresql" not in where:
        return as_json([])
    if len(set(where.values())) == 1:
        return call(where["postgresql"], ["backup", "references"], {})
    wanted = [reference for reference in REFERENCES if reference.engine in where]
    return as_json(
        compare(
            wanted,
            lambda reference, after: _page(where[reference.engine], reference, after),
            lambda ids: _missing(where["postgresql"], ids),
        )
    )


def _page(host: Host, reference: Reference, after: str) -> Page:
    answer = call(host, ["backup", "named-users"], {"reference": reference.name, "after": after})
    return Page([(user, number, document) for user, number, document in answer["users"]], answer["after"])


def _missing(host: Host, ids: list[str]) -> list[str]:
    return list(call(host, ["backup", "missing-users"], {"ids": ids})["missing"]) if ids else []


def references_or_reason(engines_of: Placed) -> dict[str, Any]:
    """Return what `check_references` does, or as `error` why the stores could not be compared: the restore is done."""
    try:
        return check_references(engines_of)
    except DbkeepError as error:
        return {"references": [], "dangling": None, "error": str(error)}
