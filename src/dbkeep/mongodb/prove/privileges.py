"""Privileges as MongoDB reads them: which actions a list of privileges opens on a collection, database or the cluster.

MongoDB manual, "Resource Document".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dbkeep.mongodb import statements
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.models import Declared

ADMINISTRATION = statements.USER_DATABASE


@dataclass(frozen=True, slots=True)
class Target:
    """A collection, a database (`collection` is empty), or the cluster (both are)."""

    database: str = ""
    collection: str = ""

    @property
    def is_servers_own(self) -> bool:
        """Whether a privilege on the whole database, or on all of them, is none on this collection."""
        of_the_set = self.database == "local" and self.collection.startswith("replset.")
        return self.collection.startswith("system.") or of_the_set

    @property
    def is_cluster(self) -> bool:
        return not self.database

    def __str__(self) -> str:
        if self.is_cluster:
            return "cluster"
        return f"{self.database}.{self.collection}" if self.collection else f"database {self.database}"


def actions(privileges: Iterable[Document], target: Target) -> frozenset[str]:
    """Return the actions that the privileges open on a target."""
    return frozenset(
        action for privilege in privileges if _reaches(privilege["resource"], target) for action in privilege["actions"]
    )


def actions_on(privileges: Iterable[Document], database: str, collection: str) -> frozenset[str]:
    """Return the actions that the privileges open on a collection, or on a database when `collection` is empty."""
    return actions(privileges, Target(database, collection))


def _reaches(resource: Document, target: Target) -> bool:
    if resource.get("anyResource"):
        return True
    if target.is_cluster or "db" not in resource or "collection" not in resource:
        return bool(target.is_cluster and resource.get("cluster"))
    if resource["db"] not in {"", target.database}:
        return False
    return resource["collection"] == target.collection or (resource["collection"] == "" and not target.is_servers_own)


def named(privileges: Iterable[Document]) -> Iterator[Target]:
    """Yield the collections and databases that the privileges name."""
    for privilege in privileges:
        resource = privilege["resource"]
        if resource.get("db") and "collection" in resource:
            yield Target(resource["db"], resource["collection"])


def declared_privileges(declared: Declared, user: str, built_in: Mapping[str, Sequence[Document]]) -> list[Document]:
    """Return what a user is declared to have; `built_in` are the privileges of built-in roles."""
    roles = {role.name: role for role in declared.roles}
    (waiting,) = [list(one.roles) for one in declared.users if one.name == user]
    found: list[Document] = []
    while waiting:
        name = waiting.pop()
        if name not in roles:
            found += built_in.get(name, ())
            continue
        found += [statements.privilege(declared.database, privilege) for privilege in roles[name].privileges]
        waiting += roles[name].roles
    return found
