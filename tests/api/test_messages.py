"""Conversations and messages between users, and nothing of them for anybody else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import bson
import pytest

from dbkeep.mongodb.connect import connect

NewUser = Callable[..., Any]


def private(one: Any, other: Any) -> str:
    answer = one.api.post("/conversations", json={"type": "private", "participants": [other.id]})
    assert answer.status_code in {200, 201}, answer.text
    return str(answer.json()["id"])


def group(one: Any, *others: Any) -> str:
    """A conversation of its own for a test; two users have only one private one."""
    body = {"type": "group", "participants": [other.id for other in others], "name": uuid4().hex}
    answer = one.api.post("/conversations", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def send(user: Any, conversation: str, content: str, client_id: str | None = None) -> Any:
    return user.api.put(f"/conversations/{conversation}/messages/{client_id or uuid4()}", json={"content": content})


def test_two_users_talk(trio: Any) -> None:
    ada, grace, _ = trio
    conversation = group(ada, grace)
    sent = send(ada, conversation, "Hello 😀")
    assert sent.status_code == 201
    page = grace.api.get(f"/conversations/{conversation}/messages").json()
    assert [message["content"] for message in page["items"]] == ["Hello 😀"]
    assert page["items"][0]["sender_id"] == ada.id
    assert page["items"][0]["read_by"] == []

    mark = {"message_ids": [sent.json()["id"]]}
    assert grace.api.post(f"/conversations/{conversation}/read", json=mark).json() == {"marked": 1}
    assert grace.api.post(f"/conversations/{conversation}/read", json=mark).json() == {"marked": 0}
    assert ada.api.post(f"/conversations/{conversation}/read", json=mark).json() == {"marked": 0}
    seen = ada.api.get(f"/conversations/{conversation}/messages").json()["items"][0]
    assert [receipt["user_id"] for receipt in seen["read_by"]] == [grace.id]

    latest = grace.api.get("/conversations").json()["items"][0]
    assert (latest["id"], latest["last_message_preview"]) == (conversation, "Hello 😀")


def test_third_user_sees_nothing(trio: Any) -> None:
    ada, grace, eve = trio
    conversation = group(ada, grace)
    message = send(ada, conversation, "Not for Eve").json()
    path = f"/conversations/{conversation}"
    missing = f"/conversations/{bson.ObjectId()}"
    attempts = [
        eve.api.get,
        lambda where: eve.api.get(f"{where}/messages"),
        lambda where: eve.api.get(f"{where}/presence"),
        lambda where: eve.api.put(f"{where}/messages/{uuid4()}", json={"content": "Let me in"}),
        lambda where: eve.api.put(f"{where}/messages/{message['client_id']}", json={"content": "Not for Eve"}),
        lambda where: eve.api.post(f"{where}/read", json={"message_ids": [message["id"]]}),
    ]
    for attempt in attempts:
        foreign, nowhere = attempt(path), attempt(missing)
        assert (foreign.status_code, foreign.json()) == (404, nowhere.json())
    assert conversation not in [item["id"] for item in eve.api.get("/conversations").json()["items"]]
    seen = ada.api.get(f"{path}/messages").json()["items"]
    assert [(item["content"], item["read_by"]) for item in seen] == [("Not for Eve", [])]


def test_marks_do_not_reach_into_another_conversation(trio: Any) -> None:
    ada, grace, eve = trio
    foreign, own = group(ada, grace), group(eve, grace)
    message = send(ada, foreign, "Elsewhere").json()
    mark = {"message_ids": [message["id"]]}
    assert eve.api.post(f"/conversations/{own}/read", json=mark).json() == {"marked": 0}


def test_send_is_idempotent(trio: Any) -> None:
    ada, grace, _ = trio
    conversation, client_id = group(ada, grace), str(uuid4())
    first, again = (send(ada, conversation, "Once", client_id) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert send(ada, conversation, "Something else", client_id).status_code == 409
    # The id is the sender's own: another may use the same one.
    assert send(grace, conversation, "Also mine", client_id).status_code == 201
    assert len(ada.api.get(f"/conversations/{conversation}/messages").json()["items"]) == 2


def test_simultaneous_sends_of_one_message_store_one(trio: Any) -> None:
    ada, grace, _ = trio
    conversation, client_id = group(ada, grace), str(uuid4())
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: send(ada, conversation, "Once", client_id), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_two_users_have_one_private_conversation(trio: Any) -> None:
    ada, grace, _ = trio
    with ThreadPoolExecutor(4) as threads:
        pairs = [(ada, grace), (grace, ada)] * 2
        ids = list(threads.map(lambda pair: private(*pair), pairs))
    assert len(set(ids)) == 1


def test_history_is_paged_without_gap_or_repetition(trio: Any) -> None:
    ada, grace, _ = trio
    conversation = group(ada, grace)
    path = f"/conversations/{conversation}/messages"
    for number in range(7):
        assert send(ada, conversation, str(number)).status_code == 201
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = grace.api.get(path, params={"limit": 3, **cursor}).json()
        seen += [message["content"] for message in page["items"]]
        if page["older"] is None:
            break
        cursor = {"before": page["older"]}
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]

    latest = grace.api.get(path, params={"limit": 3}).json()
    assert grace.api.get(path, params={"after": latest["newer"]}).json()["items"] == []
    send(ada, conversation, "7")
    newer = grace.api.get(path, params={"after": latest["newer"]}).json()
    assert [message["content"] for message in newer["items"]] == ["7"]


@pytest.mark.parametrize(
    "parameters", [{"limit": 0}, {"limit": 101}, {"before": "x"}, {"before": "_" * 27}, {"limit": "many"}]
)
def test_bad_paging_is_refused(trio: Any, parameters: dict[str, Any]) -> None:
    ada, grace, _ = trio
    assert ada.api.get(f"/conversations/{private(ada, grace)}/messages", params=parameters).status_code == 422


@pytest.mark.parametrize("content", ["", "x" * 4001, "a\x00b", {"$ne": None}, None])
def test_bad_message_is_refused(trio: Any, content: Any) -> None:
    ada, grace, _ = trio
    assert send(ada, private(ada, grace), content).status_code == 422


def test_conversation_needs_users_that_exist(trio: Any) -> None:
    ada = trio[0]
    for participants, status in (([str(uuid4())], 404), ([ada.id], 422), ([], 422), (["x"], 422)):
        body = {"type": "private", "participants": participants}
        assert ada.api.post("/conversations", json=body).status_code == status


def test_presence_is_shown_to_participants(trio: Any) -> None:
    ada, grace, eve = trio
    conversation = group(ada, grace, eve)
    assert grace.api.put("/presence").status_code == 204
    assert eve.api.get(f"/conversations/{conversation}/presence").json() == {"online": [grace.id]}


def test_blocked_user_neither_begins_nor_goes_on(new_user: NewUser) -> None:
    ada, eve = new_user("ada"), new_user("eve")
    conversation = private(eve, ada)
    assert send(eve, conversation, "Hello").status_code == 201
    assert ada.api.put(f"/relationships/blocks/{eve.id}").status_code == 204
    assert send(eve, conversation, "Hello?").status_code == 404
    assert eve.api.post("/conversations", json={"type": "private", "participants": [ada.id]}).status_code == 404
    assert eve.api.get(f"/users/{ada.username}").status_code == 404
    assert eve.api.get("/relationships").json() == []
    assert ada.api.delete(f"/relationships/{eve.id}").status_code == 204
    assert send(eve, conversation, "Hello again").status_code == 201


def test_friendship_needs_request_and_answer(new_user: NewUser) -> None:
    ada, grace = new_user("ada"), new_user("grace")
    assert ada.api.put(f"/relationships/requests/{grace.id}").status_code == 204
    assert ada.api.put(f"/relationships/requests/{grace.id}").status_code == 409
    answer = {"accept": True}
    assert ada.api.post(f"/relationships/requests/{grace.id}/answer", json=answer).status_code == 404
    assert grace.api.post(f"/relationships/requests/{ada.id}/answer", json=answer).status_code == 204
    (tie,) = ada.api.get("/relationships").json()
    assert (tie["user_id"], tie["related_user_id"], tie["status"]) == (ada.id, grace.id, "accepted")


def test_a_block_keeps_a_rejection(new_user: NewUser) -> None:
    ada, grace = new_user("ada"), new_user("grace")
    assert ada.api.put(f"/relationships/requests/{grace.id}").status_code == 204
    assert grace.api.post(f"/relationships/requests/{ada.id}/answer", json={"accept": False}).status_code == 204
    assert ada.api.put(f"/relationships/blocks/{grace.id}").status_code == 204
    assert ada.api.delete(f"/relationships/{grace.id}").status_code == 204
    assert ada.api.delete(f"/relationships/{grace.id}").status_code == 404
    assert ada.api.put(f"/relationships/requests/{grace.id}").status_code == 409


def test_notifications_are_each_users_own(trio: Any, servers: Any) -> None:
    ada, _, eve = trio
    moment = datetime.now(UTC)
    document = {
        "_id": bson.ObjectId(),
        "user_id": ada.id,
        "type": "system",
        "content": {"title": "Welcome"},
        "related_to": {"type": "system", "id": "welcome"},
        "is_read": False,
        "created_at": moment,
        "expires_at": moment + timedelta(days=1),
    }
    with connect(servers.mongodb) as client:
        client[servers.mongodb.database]["notifications"].insert_one(document)
    notification = str(document["_id"])
    assert eve.api.get("/notifications").json()["items"] == []
    assert eve.api.post(f"/notifications/{notification}/read").status_code == 404
    assert ada.api.get("/notifications/unread").json() == {"unread": 1}
    assert ada.api.post(f"/notifications/{notification}/read").status_code == 204
    assert ada.api.get("/notifications/unread").json() == {"unread": 0}
    assert [item["content"] for item in ada.api.get("/notifications").json()["items"]] == [{"title": "Welcome"}]
