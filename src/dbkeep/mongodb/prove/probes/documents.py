"""P20 to P23: is every bad document refused, on every way in, and every good one accepted?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.models import Collection
from dbkeep.mongodb.prove.documents import Specimens, fresh, specimens
from dbkeep.mongodb.prove.faults import Fault, kinds
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.world import World
from dbkeep.mongodb.prove.writes import BATCH, Codes, clear, insert_each, update_each
from dbkeep.prove.probe import Finding, Note, require

SOURCES = ("STIG SV-252181", "MongoDB manual: Schema Validation")
LEAST = 200
GOOD_ONES = 60
MOST_LIVE = 100


@probe("P20", "Every bad document is refused when it is inserted", area="documents", sources=SOURCES)
def inserts(world: World) -> Iterator[Finding | Note]:
    for collection, user in _written(world, "insert"):
        bad = [fault for _, fault in _sent(world, specimens(world, collection).bad)]
        documents = [fault.document if fault.path.startswith("_id") else fresh(fault.document) for fault in bad]
        for some in _batches(len(bad)):
            codes = insert_each(world, user, collection.name, documents[some])
            yield from _accepted(user, collection, "inserted", bad[some], codes)
        yield Note(f"{collection.name}: {len(bad)} bad documents with {kinds(bad)} different faults inserted")
        require(kinds(bad) >= (LEAST if world.is_copy else 1), f"only {kinds(bad)} faults of {collection.name}")


@probe("P21", "Every bad document is refused when a good one is made into it", area="documents", sources=SOURCES)
def updates(world: World) -> Iterator[Finding | Note]:
    for collection, user in _written(world, "update"):
        inserting = world.who_may("insert", collection.name)
        if inserting is None or (not world.is_copy and not world.may(user, "insert", collection.name)):
            yield Note(f"{collection.name}: not tried, {user} may not insert what it would update")
            continue
        found = specimens(world, collection)
        chosen = _sent(world, [(base, fault) for base, fault in found.bad if fault.update is not None])
        done = 0
        for base in found.bases:
            bad, stored = [fault for other, fault in chosen if other is base], fresh(base)
            for some in _batches(len(bad)):
                sent = [fault.update or {} for fault in bad[some]]
                replacements = [{**fault.document, "_id": stored["_id"]} for fault in bad[some]]
                codes = update_each(world, (inserting, user), collection.name, stored, [*sent, *replacements])
                yield from _accepted(user, collection, "set", bad[some], codes[: len(sent)])
                yield from _accepted(user, collection, "put in place of a good one", bad[some], codes[len(sent) :])
                done += len(codes)
        yield Note(f"{collection.name}: {done} updates and replacements of {len(found.bases)} good documents")
        require(done >= (LEAST if world.is_copy else 1), f"only {done} updates of {collection.name}")


@probe("P22", "Every good document is accepted, also the smallest and the largest", area="documents", sources=SOURCES)
def good_documents(world: World) -> Iterator[Finding | Note]:
    for collection, user in _written(world, "insert"):
        found = specimens(world, collection)
        good = _spread(found)
        codes = insert_each(world, user, collection.name, [fresh(document) for document in good])
        for document, code in zip(good, codes, strict=True):
            if code is not None:
                yield Finding(user, collection.name, f"a good document is refused: code {code}: {str(document)[:200]}")
                break
        yield Note(f"{collection.name}: {len(good)} good documents inserted")


@probe(
    "P23", "A document that is bad already is not changed into another bad one", area="documents", sources=SOURCES,
    live=False,
)  # fmt: skip
def bad_already(world: World) -> Iterator[Finding]:
    """Level moderate leaves out what is bad already. Only the administrator can store such a document."""
    for collection, user in _written(world, "update"):
        base = specimens(world, collection).bases[0]
        stored = {**fresh(base), "dbkeep_extra": 1}
        place = world.administrator()[world.database][collection.name]
        place.insert_one(stored, bypass_document_validation=True)
        change = [{"q": {"_id": stored["_id"]}, "u": {"$set": {"dbkeep_extra": 2}}}]
        tried = world.attempt(user, world.database, {"update": collection.name, "updates": change})
        clear(world, collection.name)
        if tried.is_done:
            yield Finding(user, collection.name, "a document that is bad already is changed and stays bad")


def _written(world: World, action: str) -> list[tuple[Collection, str]]:
    """Return each collection with a user that is declared to write there."""
    found = [(collection, world.who_may(action, collection.name)) for collection in world.collections]
    written = [(collection, user) for collection, user in found if user is not None]
    require(written, f"nobody is declared to {action} a document")
    return written


def _sent(world: World, bad: Sequence[tuple[Document, Fault]]) -> list[tuple[Document, Fault]]:
    """Return the documents to send, the suspect ones first; on a live server, where each is a transaction, not all."""
    if not world.is_copy:
        different = list({str(fault): (base, fault) for base, fault in bad}.values())
        return different[:: 1 + len(different) // MOST_LIVE]
    return sorted(bad, key=lambda one: one[1].path not in world.first)


def _batches(number: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, number, BATCH))


def _accepted(user: str, collection: Collection, how: str, bad: Sequence[Fault], codes: Codes) -> Iterator[Finding]:
    for fault, code in zip(bad, codes, strict=True):
        if code is None:
            yield Finding(user, f"{collection.name} {fault}", f"a bad document is {how}")
        elif code not in fault.codes:
            yield Finding(user, f"{collection.name} {fault}", f"is refused, but not for its fault: code {code}")


def _spread(found: Specimens) -> list[Document]:
    """Return some of the good documents, the smallest and the largest among them."""
    ordered = sorted(found.good, key=lambda document: len(str(document)))
    return [*ordered[: -1 : max(1, len(ordered) // GOOD_ONES)], ordered[-1]]
