"""Only the repositories talk to MongoDB, and each of their methods says for whom."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ValidationError

from chat_api.conversations.repository import Conversations
from chat_api.messages.repository import Messages
from chat_api.notifications.preferences import NotificationPreferences
from chat_api.notifications.repository import Notifications
from chat_api.stores.mongodb import scalars_only

SOURCE = Path(__file__).parents[2] / "src/chat_api"
REPOSITORIES = (Conversations, Messages, Notifications, NotificationPreferences)
FILES = {
    "conversations/repository.py",
    "messages/repository.py",
    "notifications/repository.py",
    "notifications/preferences.py",
}
# The client itself, and who needs no more of the driver than the names of its errors and of an _id.
STORE = "stores/mongodb.py"
PARTS = {"problems.py": {"pymongo.errors"}, "paging.py": {"bson"}}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in SOURCE.rglob("*.py"):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text(encoding="utf-8"))


def imported(module: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name for name in names if name.partition(".")[0] in {"pymongo", "bson"}}


def attributes(module: ast.Module) -> set[str]:
    return {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}


def test_no_other_module_imports_the_driver() -> None:
    found = {name: imported(module) for name, module in modules() if imported(module)}
    assert found.keys() == FILES - {"notifications/preferences.py"} | {STORE} | PARTS.keys()
    assert {name: found[name] for name in PARTS} == PARTS


def test_no_other_module_asks_for_a_collection() -> None:
    assert {name for name, module in modules() if "collection" in attributes(module)} == FILES
    assert {name for name, module in modules() if "_database" in attributes(module)} == {STORE}


METHODS = [
    (repository, name)
    for repository in REPOSITORIES
    for name, _ in inspect.getmembers(repository, inspect.isroutine)
    if not name.startswith("_")
]


@pytest.mark.parametrize(("repository", "name"), METHODS, ids=[f"{r.__name__}.{name}" for r, name in METHODS])
def test_every_method_takes_the_acting_user_first_and_checks_what_it_is_given(repository: type, name: str) -> None:
    method = getattr(repository, name)
    _, first, *_ = inspect.signature(method).parameters.values()
    assert (first.name, first.annotation) == ("acting_user", "UUID")
    # The mark that pydantic's validate_call leaves.
    assert hasattr(method, "raw_function")


def test_the_check_refuses_what_only_looks_like_a_user() -> None:
    @scalars_only
    def method(acting_user: UUID) -> UUID:
        return acting_user

    user = UUID(int=7)
    assert method(user) == user
    for other in (str(user), {"$ne": None}, {"$gt": ""}, [user], None, user.bytes):
        with pytest.raises(ValidationError):
            method(other)  # type: ignore[arg-type]
