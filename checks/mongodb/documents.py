"""Do only well-formed documents get into the collections?"""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from bson import ObjectId
from pymongo.errors import OperationFailure

from dbkeep.checks.access import Access
from dbkeep.checks.control import control
from dbkeep.checks.facts.compliance import complaint
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

APPLY = "run `dbkeep drift mongodb`, then `dbkeep apply mongodb`; validators are in mongo/collections/"
COLLECTIONS = {"messages", "conversations", "notifications", "notification_preferences"}
DOCUMENT_VALIDATION_FAILURE = 121
UNAUTHORIZED = 13


@control(
    "MG-SCH-01",
    "Every collection has a strict validator that refuses undeclared fields",
    severity="high",
    sources=("STIG SV-252181", "MongoDB manual: Schema Validation"),
    fix=APPLY,
)
def test_validators_are_strict(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    collections = {c["name"]: c for c in mongodb_facts["collections"] if c["type"] == "collection"}
    observe(**{name: {k: c[k] for k in ("level", "action", "closed")} for name, c in collections.items()})
    missing = COLLECTIONS - collections.keys()
    assert not missing, f"the database lacks {', '.join(sorted(missing))}"
    wrong = [
        f"{name} (level {c['level']}, action {c['action']}, {'closed' if c['closed'] else 'open to any field'})"
        for name, c in collections.items()
        if name in COLLECTIONS and not (c["level"] == "strict" and c["action"] == "error" and c["closed"])
    ]
    assert not wrong, "; ".join(wrong)


@control(
    "MG-SCH-02",
    "The documents that are there comply with their validator",
    severity="medium",
    sources=("MongoDB manual: Schema Validation, Find Documents that Don't Match",),
    fix="correct them by a migration; when it is not known yet, run `dbkeep check MG-SCH-02` again",
)
def test_documents_comply(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    found = {c["name"]: c["compliance"] for c in mongodb_facts["collections"] if c["name"] in COLLECTIONS}
    observe(**found)
    assert found.keys() == COLLECTIONS, "a collection is missing"
    complaints = [f"{name}: {wrong}" for name, each in found.items() if (wrong := complaint(each))]
    assert not complaints, "; ".join(complaints)


def message() -> dict[str, Any]:
    """Return a well-formed message of a conversation and a sender that do not exist."""
    now = datetime.now(UTC)
    return {
        "_id": ObjectId(),
        "conversation_id": ObjectId(),
        "sender_id": str(uuid4()),
        "content": "probe",
        "attachments": [],
        "created_at": now,
        "updated_at": now,
        "delivered_to": [],
        "read_by": [],
    }


BAD: dict[str, dict[str, Any]] = {
    "undeclared field": {"probe": 1},
    "sender that is no UUID": {"sender_id": "somebody"},
    "sender of another type": {"sender_id": 7},
    "operator as content": {"content": {"$ne": None}},
    "content too long": {"content": "x" * 4001},
    "time as text": {"created_at": "yesterday"},
    "too many attachments": {
        "attachments": [{"id": ObjectId(), "type": "file", "url": "https://example.org/a", "name": "a", "size": 1}] * 11
    },
}


@control(
    "MG-SCH-04",
    "The API's user cannot store a malformed message, nor ask to skip validation",
    severity="high",
    sources=("MongoDB manual: Error Codes (121 DocumentValidationFailure)", "STIG SV-252181"),
    fix=APPLY,
)
def test_bad_documents_are_refused(access: Access, mongodb_primary: Host, observe: Observe) -> None:
    accepted = []
    with access.mongodb(mongodb_primary, "chat_api") as client:

        def insert(document: dict[str, Any], **options: Any) -> int:
            """Return the code of the refusal, or 0; the transaction never commits."""
            with client.start_session() as session, session.start_transaction():
                try:
                    client.chat.messages.insert_one(document, session=session, **options)
                except OperationFailure as error:
                    return int(error.code or -1)
                finally:
                    session.abort_transaction()
            return 0

        good = insert(message())
        for name, change in BAD.items():
            code = insert(message() | change)
            observe(**{name.replace(" ", "_"): code})
            if code != DOCUMENT_VALIDATION_FAILURE:
                accepted.append(f"{name} (code {code})")
        bypass = insert(message() | {"probe": 1}, bypass_document_validation=True)
    observe(well_formed=good, bypass=bypass)
    assert good == 0, f"a well-formed message is refused (code {good}): the probe would prove nothing"
    assert not accepted, f"stored: {', '.join(accepted)}"
    assert bypass == UNAUTHORIZED, f"chat_api may skip validation (code {bypass})"
