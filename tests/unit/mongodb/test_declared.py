"""The declared state in this repository is good, and bad input names file, line and key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dbkeep.errors import DeclaredError
from dbkeep.mongodb import Declared, read_declared, users

ROOT = Path(__file__).parents[3]


def test_the_repository_declares_four_collections_and_eight_users() -> None:
    declared = read_declared(ROOT)
    assert {collection.name for collection in declared.collections} == {
        "messages",
        "conversations",
        "notifications",
        "notification_preferences",
    }
    assert len(users(declared)) == 8
    assert Declared.model_validate_json(declared.model_dump_json()) == declared


MESSAGES, PREFERENCES = "collections/messages.yml", "collections/notification_preferences.yml"
BAD = [
    (
        MESSAGES,
        "    client_id: *user",
        "    client_id: {bsonType: uuid}",
        "client_id.bsonType: there is no bsonType 'uuid'",
    ),
    (MESSAGES, "    client_id: *user", "    client_id: {}", "properties.client_id: bsonType is missing"),
    (MESSAGES, "    client_id: *user", "    yes: *user", "True: YAML does not read this field name as text"),
    (MESSAGES, "    client_id: *user", "    client_id: uuid", "properties.client_id: a schema is a mapping"),
    (
        MESSAGES,
        "{bsonType: string, minLength: 1, maxLength: 4000}",
        "{bsonType: string}",
        "content: a string needs maxLength",
    ),
    (MESSAGES, ", maxLength: 4000}", ", maxItems: 4000}", "content.maxItems: maxItems does not apply to string"),
    (
        MESSAGES,
        'maxLength: 36, pattern: "^[0-9a-f]',
        'maxLength: 36, pattern: "^[0-9a-f',
        "pattern: not a regular expression",
    ),
    (MESSAGES, "      maxItems: 10\n", "", "attachments.maxItems: an array needs a bound"),
    (
        MESSAGES,
        "required: [id, type, url, name, size]",
        "required: [id, kind]",
        "required.1: required field 'kind' is not",
    ),
    (MESSAGES, "required: [id, type, url, name, size]", "required: id", "required: must be a list of field names"),
    (MESSAGES, "  additionalProperties: false\n", "", "json_schema.additionalProperties: must be false"),
    (
        MESSAGES,
        "    _id: {bsonType: objectId}\n",
        "",
        "json_schema.required.0: required field '_id' is not in properties",
    ),
    (MESSAGES, "name: messages", "name: message", "name: the file is called messages"),
    (MESSAGES, "json_schema:", "schema:", "json_schema: Field required"),
    (MESSAGES, "$gte: [$updated_at", "$gte: [$edited_at", "rules.0.expr: reads the undeclared field 'edited_at'"),
    (MESSAGES, "keys: [{created_at: 1}]", "keys: [{made_at: 1}]", "keys.0: indexes the undeclared field 'made_at'"),
    (
        MESSAGES,
        "keys: [{created_at: 1}]",
        "keys: [{created_at: 2}]",
        "indexes.2.keys.0.created_at: Input should be 1 or -1",
    ),
    (MESSAGES, "keys: [{created_at: 1}]", "keys: {created_at: 1}", "indexes.2.keys: Input should be a valid tuple"),
    (MESSAGES, "    query: chat_retention", "    # query: chat_retention", "indexes.2.query: Field required"),
    (
        MESSAGES,
        "keys: [{created_at: 1}]",
        "keys: [{conversation_id: 1}, {created_at: -1}, {_id: -1}]",
        "indexes.2.keys: stands twice",
    ),
    (MESSAGES, "  - name: created_at\n", "  - name: conversation_id_created_at_id\n", "indexes.2.name: stands twice"),
    (
        MESSAGES,
        "keys: [{created_at: 1}]",
        "keys: [{sender_id: 1}]\n    expire_after_seconds: 60",
        "indexes.2.expire_after_seconds: needs an index on one field of type date",
    ),
    (
        PREFERENCES,
        "bsonType: object\n  additional",
        "bsonType: [object, bool]\n  additional",
        "bsonType: must be object",
    ),
    (
        "views/message_activity.yml",
        "view_on: messages",
        "view_on: letters",
        "view_on: there is no collection 'letters'",
    ),
    ("roles.yml", "{collection: message_activity,", "{collection: message_actions,", "there is no collection or view"),
    (
        "roles.yml",
        "roles: [backup]",
        "roles: [root]",
        "'root' is neither declared here nor one of backup, clusterMonitor",
    ),
    ("roles.yml", "roles: [clusterMonitor]", "roles: [readWrite]", "'readWrite' is neither declared here nor one of"),
    (
        "roles.yml",
        "[find, insert, update]}",
        "[find, bypassDocumentValidation]}",
        "bypassDocumentValidation opens more",
    ),
    (
        "roles.yml",
        "{cluster: true, actions",
        "{cluster: true, database: admin, actions",
        "name exactly one of collection",
    ),
    ("roles.yml", "{name: chat_api, roles: [chat_api]}", "{name: chat_api, roles: [api]}", "there is no role 'api'"),
    (
        "roles.yml",
        "{name: chat_api, roles: [chat_api]}",
        "{name: chat_api, roles: []}",
        "users.0.roles: Tuple should have",
    ),
    ("roles.yml", "{name: chat_audit, roles", "{name: chat_api, roles", "users.7.name: stands twice"),
    ("roles.yml", "users:\n", "users:\n\t", "not valid YAML"),
]


@pytest.mark.parametrize(("file", "good", "bad", "message"), BAD, ids=[f"{case[0]}: {case[3]}" for case in BAD])
def test_bad_input_names_file_line_and_key(file: str, good: str, bad: str, message: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "mongo", tmp_path / "mongo")
    path = tmp_path / "mongo" / file
    text = path.read_text(encoding="utf-8")
    assert good in text
    path.write_text(text.replace(good, bad, 1), encoding="utf-8")
    with pytest.raises(DeclaredError) as error:
        read_declared(tmp_path)
    assert str(error.value).startswith(f"{path}:")
    assert message in str(error.value)
    assert error.value.line
    assert "\n" not in str(error.value)


def test_the_line_is_that_of_the_mistake(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "mongo", tmp_path / "mongo")
    path = tmp_path / "mongo/collections/messages.yml"
    lines = path.read_text(encoding="utf-8").splitlines()
    number = lines.index("      maxItems: 10")
    lines[number] = "      maxItems: ten"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(
        DeclaredError, match=rf"messages\.yml:{number + 1}: .*attachments\.maxItems: an array needs a bound"
    ):
        read_declared(tmp_path)


def test_no_collection_at_all_is_an_error(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "mongo", tmp_path / "mongo")
    shutil.rmtree(tmp_path / "mongo/collections")
    with pytest.raises(DeclaredError, match="declares no collection"):
        read_declared(tmp_path)
