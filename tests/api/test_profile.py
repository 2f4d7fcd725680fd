"""A user's own profile, settings and notification preferences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

NewUser = Callable[..., Any]


def test_profile_is_read_and_changed(new_user: NewUser) -> None:
    user = new_user()
    assert user.api.get("/profile").json()["display_name"] == user.username
    change = {"display_name": "Ada", "bio": "Ünïcode ☂ 😀", "avatar_url": "https://example.org/a.png"}
    assert user.api.patch("/profile", json=change).status_code == 200
    seen = user.api.get("/profile").json()
    assert {key: seen[key] for key in change} == change
    assert "email" not in seen
    assert user.api.patch("/profile", json={"bio": None}).json()["bio"] is None
    assert user.api.get("/profile").json()["display_name"] == "Ada"


@pytest.mark.parametrize(
    "change",
    [
        {"bio": "a\x00b"},
        {"display_name": ""},
        {"avatar_url": "http://example.org"},
        {"user_id": "x"},
        {"bio": {"$gt": ""}},
    ],
)
def test_bad_change_is_refused(trio: Any, change: dict[str, Any]) -> None:
    assert trio[0].api.patch("/profile", json=change).status_code == 422


def test_settings_are_each_users_own(trio: Any) -> None:
    one, other, _ = trio
    assert one.api.put("/settings/theme", json={"value": {"mode": "dark", "size": 3}}).status_code == 204
    assert one.api.put("/settings/theme", json={"value": "light"}).status_code == 204
    assert one.api.get("/settings").json() == {"theme": "light"}
    assert other.api.get("/settings").json() == {}
    assert other.api.delete("/settings/theme").status_code == 204
    assert one.api.get("/settings").json() == {"theme": "light"}
    assert one.api.put("/settings/theme", json={"value": "a\x00b"}).status_code == 422
    assert one.api.put("/settings/theme", json={"value": "x" * 5000}).status_code == 422
    assert one.api.delete("/settings/theme").status_code == 204
    assert one.api.get("/settings").json() == {}


def test_notification_preferences_are_each_users_own(trio: Any) -> None:
    one, other, _ = trio
    chosen = {
        "channels": {"in_app": False, "email": True, "push": True},
        "types": {"message": False, "friend_request": True, "system": True},
    }
    assert one.api.put("/notifications/preferences", json=chosen).status_code == 204
    assert one.api.get("/notifications/preferences").json() == chosen
    assert other.api.get("/notifications/preferences").json()["channels"]["in_app"] is True


def test_found_user_is_found_by_name_only(trio: Any) -> None:
    one, other, _ = trio
    assert one.api.get(f"/users/{other.username}").json() == {"id": other.id, "username": other.username}
    assert one.api.get("/users/nobody-at-all").status_code == 404
