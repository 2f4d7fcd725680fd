"""Friendships and blocks: who may make them, and what nobody may learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

Session = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Session]
Register = Callable[[str], UUID]
ActFor = Callable[[Session, UUID], None]


def test_friendship_needs_both(acting: Any, act_for: ActFor, alice: UUID, bob: UUID) -> None:
    with acting(alice) as session:
        session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), bob])
        with pytest.raises(psycopg.errors.NoDataFound), session.transaction():
            session.execute("SELECT chat.answer_friendship(%s, true)", [alice])
        with pytest.raises(psycopg.errors.NoDataFound), session.transaction():
            session.execute("SELECT chat.answer_friendship(%s, true)", [bob])
        with pytest.raises(psycopg.errors.UniqueViolation), session.transaction():
            session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), bob])
        act_for(session, bob)
        with pytest.raises(psycopg.errors.UniqueViolation), session.transaction():
            session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), alice])
        session.execute("SELECT chat.answer_friendship(%s, true)", [alice])
        act_for(session, alice)
        assert session.execute("SELECT related_user_id, type, status FROM chat.relationships").fetchall() == [
            (bob, "friend", "accepted")
        ]


def test_a_rejected_request_cannot_be_withdrawn_and_repeated(
    acting: Any, act_for: ActFor, alice: UUID, bob: UUID
) -> None:
    with acting(alice) as session:
        session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), bob])
        act_for(session, bob)
        session.execute("SELECT chat.answer_friendship(%s, false)", [alice])
        act_for(session, alice)
        with pytest.raises(psycopg.errors.NoDataFound), session.transaction():
            session.execute("SELECT chat.end_relationship(%s)", [bob])
        act_for(session, bob)
        session.execute("SELECT chat.end_relationship(%s)", [alice])
        act_for(session, alice)
        session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), bob])


def test_a_block_in_between_does_not_undo_a_rejection(acting: Any, act_for: ActFor, alice: UUID, bob: UUID) -> None:
    with acting(alice) as session:
        session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), bob])
        act_for(session, bob)
        session.execute("SELECT chat.answer_friendship(%s, false)", [alice])
        act_for(session, alice)
        session.execute("SELECT chat.block_user(%s, %s)", [uuid4(), bob])
        session.execute("SELECT chat.end_relationship(%s)", [bob])
        with pytest.raises(psycopg.errors.UniqueViolation), session.transaction():
            session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), bob])
        assert session.execute("SELECT type, status FROM chat.relationships").fetchall() == [("friend", "rejected")]


@pytest.mark.parametrize("friends", [True, False])
def test_each_side_ends_a_friendship_or_a_request(
    acting: Any, act_for: ActFor, alice: UUID, bob: UUID, friends: bool
) -> None:
    for ending, other in ((alice, bob), (bob, alice)):
        with acting(alice) as session:
            session.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), bob])
            act_for(session, bob)
            if friends:
                session.execute("SELECT chat.answer_friendship(%s, true)", [alice])
            act_for(session, ending)
            session.execute("SELECT chat.end_relationship(%s)", [other])
            assert session.execute("SELECT FROM chat.relationships").fetchall() == []


def test_a_block_is_never_revealed(acting: Any, act_for: ActFor, alice: UUID, bob: UUID) -> None:
    """To the blocked user the blocking one looks like one that does not exist, whatever it tries."""
    nobody, known_id = uuid4(), uuid4()
    with acting(alice) as session:
        session.execute("SELECT chat.request_friendship(%s, %s)", [known_id, bob])
        act_for(session, bob)
        assert session.execute("SELECT id FROM chat.relationships").fetchall() == [(known_id,)]
        act_for(session, alice)
        session.execute("SELECT chat.block_user(%s, %s)", [uuid4(), bob])
        assert session.execute("SELECT type FROM chat.relationships").fetchall() == [("blocked",)]
        act_for(session, bob)
        assert session.execute("SELECT FROM chat.relationships").fetchall() == []
        answers = [[_try(session, statement, {"id": uuid4(), "other": other}) for statement in ATTEMPTS]
                   for other in (alice, nobody)]  # fmt: skip
        assert answers[0] == answers[1]


def test_the_id_of_a_request_does_not_tell_that_it_became_a_block(
    acting: Any, act_for: ActFor, register: Register, alice: UUID, bob: UUID
) -> None:
    """Bob saw the id of Alice's request; were it still taken, it would tell him why the request is gone."""
    carol, known_id = register("carol"), uuid4()
    with acting(alice) as session:
        session.execute("SELECT chat.request_friendship(%s, %s)", [known_id, bob])
        session.execute("SELECT chat.block_user(%s, %s)", [uuid4(), bob])
        act_for(session, bob)
        session.execute("SELECT chat.request_friendship(%s, %s)", [known_id, carol])


@pytest.mark.parametrize("statement", ["can_see", "visible_among", "find_user", "request", "block", "answer", "end"])
def test_a_block_costs_the_same_work_as_nobody(
    acting: Any, act_for: ActFor, register: Register, alice: UUID, statement: str
) -> None:
    """How long an answer takes must not tell: the same lookups are made for one who blocks, is gone or never was."""
    bob, gone = register("bob"), register("gone")
    with acting(gone) as session:
        session.execute("SELECT chat.deactivate_oneself()")
        act_for(session, alice)
        session.execute("SELECT chat.block_user(%s, %s)", [uuid4(), bob])
        name = session.execute("SELECT username FROM chat.users").fetchone()
        act_for(session, bob)
        work = []
        for other, known_as in ((alice, name), (gone, f"gone-{gone}"), (uuid4(), ("nobody",))):
            before = session.execute(SCANS).fetchall()
            _try(session, LOOKUPS[statement], {"id": uuid4(), "other": other, "name": "".join(known_as)})
            after = session.execute(SCANS).fetchall()
            work.append([(table, now - then) for (table, now), (_, then) in zip(after, before, strict=True)])
        assert sum(scans for _, scans in work[0]) > 0
        assert work[0] == work[1] == work[2]


SCANS = """
SELECT relname, seq_scan + coalesce(idx_scan, 0) FROM pg_stat_xact_user_tables WHERE schemaname = 'chat'
 AND relname <> 'context_keys' ORDER BY relname
"""
LOOKUPS = {
    "can_see": "SELECT chat.can_see(%(other)s)",
    "visible_among": "SELECT chat.visible_among(ARRAY[%(other)s])",
    "find_user": "SELECT chat.find_user(%(name)s)",
    "request": "SELECT chat.request_friendship(%(id)s, %(other)s)",
    "block": "SELECT chat.block_user(%(id)s, %(other)s)",
    "answer": "SELECT chat.answer_friendship(%(other)s, true)",
    "end": "SELECT chat.end_relationship(%(other)s)",
}


def test_a_request_cannot_slip_in_while_it_is_being_blocked(
    connect: Connect, act_for: ActFor, register: Register
) -> None:
    alice, bob = register("alice"), register("bob")
    with connect("app_api") as hers, connect("app_api") as his, ThreadPoolExecutor(1) as threads:
        with his.transaction():
            act_for(his, bob)
            his.execute("SELECT chat.request_friendship(%s, %s)", [uuid4(), alice])

            def block() -> None:
                with hers.transaction():
                    act_for(hers, alice)
                    hers.execute("SELECT chat.block_user(%s, %s)", [uuid4(), bob])

            blocked = threads.submit(block)
            with pytest.raises(TimeoutError):
                blocked.result(timeout=0.3)
        blocked.result(timeout=10)
        with his.transaction():
            act_for(his, bob)
            assert his.execute("SELECT FROM chat.relationships").fetchall() == []


ATTEMPTS = (
    "SELECT FROM chat.profiles WHERE user_id = %(other)s",
    "SELECT FROM chat.users WHERE id = %(other)s",
    "SELECT FROM chat.relationships WHERE user_id = %(other)s OR related_user_id = %(other)s",
    "SELECT chat.end_relationship(%(other)s)",
    "SELECT chat.can_see(%(other)s)",
    "SELECT chat.visible_among(ARRAY[%(other)s])",
    "SELECT chat.request_friendship(%(id)s, %(other)s)",
    "SELECT chat.answer_friendship(%(other)s, true)",
    "SELECT chat.block_user(%(id)s, %(other)s)",
)


def _try(session: Session, statement: str, parameters: Mapping[str, UUID | str]) -> object:
    """What the caller learns: rows and their number, or the error's code and text."""
    try:
        with session.transaction(force_rollback=True):
            cursor = session.execute(statement.encode(), parameters)
            return cursor.rowcount, cursor.fetchall() if cursor.description else None
    except psycopg.Error as error:
        return error.sqlstate, error.diag.message_primary, error.diag.message_detail


def test_a_name_finds_only_who_can_be_seen(acting: Any, act_for: ActFor, register: Register) -> None:
    seeker, hider = register("seeker"), register("hider")
    with acting(hider) as session:
        name = session.execute("SELECT username FROM chat.users").fetchone()
        act_for(session, seeker)
        assert session.execute("SELECT chat.find_user(%s)", name).fetchone() == (hider,)
        act_for(session, hider)
        session.execute("SELECT chat.block_user(%s, %s)", [uuid4(), seeker])
        act_for(session, seeker)
        assert session.execute("SELECT chat.find_user(%s)", name).fetchone() == (None,)


def test_many_are_visible_as_each_of_them_is(acting: Any, act_for: ActFor, register: Register) -> None:
    """One who blocks, is blocked, is gone, is unknown or is oneself, all asked about at once."""
    seeker, hider, blocked, gone, friend = map(register, ("seeker", "hider", "blocked", "gone", "friend"))
    with acting(hider) as session:
        session.execute("SELECT chat.block_user(%s, %s)", [uuid4(), seeker])
        act_for(session, gone)
        session.execute("SELECT chat.deactivate_oneself()")
        act_for(session, seeker)
        session.execute("SELECT chat.block_user(%s, %s)", [uuid4(), blocked])
        asked = [hider, friend, uuid4(), gone, blocked, seeker]
        seen = {user for (user,) in session.execute("SELECT chat.visible_among(%s)", [asked]).fetchall()}
        assert seen == {friend, blocked, seeker}
        for user in asked:
            assert session.execute("SELECT chat.can_see(%s)", [user]).fetchone() == (user in seen,)
        act_for(session, gone)
        assert session.execute("SELECT chat.visible_among(%s)", [asked]).fetchall() == []
