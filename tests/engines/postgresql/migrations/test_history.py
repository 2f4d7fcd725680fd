"""Migrations up and down: what is recorded, what is refused, what is lost."""

from __future__ import annotations

import pytest

from dbkeep import postgresql
from dbkeep.errors import UsageError
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared, shape
from dbkeep.postgresql.migrations import history
from dbkeep.settings import PostgreSQLSettings

from .conftest import Session, exists, live, recorded, states, with_migration


def test_up_down_and_up_again(server: PostgreSQLSettings, grown: Declared, session: Session) -> None:
    before = live(server)
    assert states(server, grown)["0099_notes"] == "pending"
    assert [change.target for change in history.up(server, grown)] == ["0099_notes"]
    assert states(server, grown)["0099_notes"] == "applied"
    assert history.up(server, grown) == ()
    made = live(server)
    assert {at for at in shape.differences(before, made) if at[0] == "chat.users"} == {
        ("chat.users", ("column", "nick"))
    }
    session.execute("INSERT INTO chat.notes SELECT n FROM generate_series(1, 3) n")
    done, held = history.down(server, grown)
    assert done == ()
    assert [change.summary for change in held] == ["take back: removes chat.notes (3 rows), chat.users.nick (0 values)"]
    assert live(server) == made
    assert recorded(session, "0099_notes") == (1, 1, 1)
    done, held = history.down(server, grown, allow_destructive=True)
    assert [change.target for change in done] == ["0099_notes"]
    assert live(server) == before
    assert recorded(session, "0099_notes") == (0, 0, 0)
    history.up(server, grown)
    assert live(server) == made


def test_every_migration_can_be_taken_back_and_comes_again(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str]
) -> None:
    before = live(server)
    done, _ = history.down(server, declared, to="0001_users", allow_destructive=True)
    assert [change.target for change in done] == [m.id for m in reversed(declared.migrations[1:])]
    (relationships,) = [change for change in done if change.target == "0003_relationships"]
    assert relationships.summary == "take back: removes chat.relationships (0 rows), view report.relationship_totals"
    assert set(live(server)) == {"chat.users"}
    done, _ = history.down(server, declared, allow_destructive=True)
    assert [change.target for change in done] == ["0001_users"]
    assert live(server) == {}
    assert history.down(server, declared, allow_destructive=True) == ((), ())
    assert [c.target for c in history.up(server, declared, to="0003_relationships")] == [
        m.id for m in declared.migrations[:3]
    ]
    postgresql.apply(server, declared, secrets)
    assert live(server) == before
    assert list(postgresql.plan(server, declared, secrets)) == []


def test_rollback_that_leaves_something_is_refused(
    server: PostgreSQLSettings, declared: Declared, session: Session
) -> None:
    sloppy = with_migration(
        declared, "0099_notes",
        "CREATE TABLE chat.notes (id int);\nALTER TABLE chat.users ADD COLUMN nick text;\n", "DROP TABLE chat.notes;\n",
    )  # fmt: skip
    history.up(server, sloppy)
    with pytest.raises(ApplyError, match=r"0099_notes: its rollback script leaves chat.users: column nick other than"):
        history.down(server, sloppy, allow_destructive=True)
    assert exists(session, "chat.notes")
    assert recorded(session, "0099_notes") == (1, 1, 1)


@pytest.mark.parametrize(
    ("edit", "state", "message"),
    [
        ({"sql": "SELECT 1;\n"}, "edited", "{}.sql was edited after it was applied"),
        (None, "missing", "{}: it was applied and its file is missing"),
    ],
)
def test_edited_and_missing_files_are_refused_both_ways(
    server: PostgreSQLSettings, declared: Declared, edit: dict[str, str] | None, state: str, message: str
) -> None:
    *kept, last = declared.migrations
    changed = declared.model_copy(update={"migrations": (*kept, last.model_copy(update=edit)) if edit else tuple(kept)})
    assert states(server, changed)[last.id] == state
    for target in (None, "0001_users"):
        with pytest.raises(ApplyError, match=message.format(last.id)):
            history.up(server, changed, to=target)
    with pytest.raises(UsageError, match=f"migration {last.id} is {state}: use the checkout"):
        history.down(server, changed, allow_destructive=True)


def test_targets_that_are_not_there(server: PostgreSQLSettings, declared: Declared, grown: Declared) -> None:
    with pytest.raises(UsageError, match=f"no migration '9_x': the newest is {declared.migrations[-1].id}"):
        history.up(server, declared, to="9_x")
    with pytest.raises(UsageError, match="0099_notes is not applied"):
        history.down(server, grown, to="0099_notes")


def test_a_migration_on_a_drifted_table_is_refused(
    server: PostgreSQLSettings, grown: Declared, secrets: dict[str, str], session: Session
) -> None:
    session.execute("ALTER TABLE chat.profiles ADD COLUMN by_hand int")
    refused = r"chat.profiles: column by_hand is not as migrations made it: mend it with `dbkeep apply postgresql`"
    with pytest.raises(ApplyError, match=refused):
        history.up(server, grown)
    with pytest.raises(ApplyError, match=refused):
        postgresql.apply(server, grown, secrets)
    with pytest.raises(ApplyError, match=refused):
        history.down(server, grown, allow_destructive=True)
    assert not exists(session, "chat.notes")
    postgresql.apply(server, grown, secrets, allow_destructive=True)
    assert exists(session, "chat.notes")


def test_no_shape_is_no_ground_for_a_migration(server: PostgreSQLSettings, grown: Declared, session: Session) -> None:
    session.execute("DROP TABLE migration.shape")
    assert [(c.kind, c.target) for c in history.up(server, grown)] == [
        ("shape", grown.migrations[-2].id),
        ("migration", "0099_notes"),
    ]
    _, held = history.down(server, grown, to="0004_settings")
    assert [change.summary for change in held][:2] == [
        "take back: removes chat.notes (0 rows), chat.users.nick (0 values)",
        "take back: removes what its script names (it was applied before shapes were recorded)",
    ]
    history.down(server, grown, to="0004_settings", allow_destructive=True)
    assert not exists(session, "chat.refresh_tokens")


def test_another_major_version_is_recorded_again_only_when_nothing_else_differs(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], session: Session
) -> None:
    session.execute(
        "UPDATE migration.shape SET server_version = 140000, tables = replace(tables::text, '::text', '')::jsonb"
    )
    (change,) = postgresql.plan(server, declared, secrets)
    assert (change.kind, change.target) == ("shape", declared.migrations[-1].id)
    session.execute("ALTER TABLE chat.users DISABLE TRIGGER users_set_updated_at")
    (change,) = postgresql.plan(server, declared, secrets)
    assert (change.kind, change.target) == ("trigger", "chat.users: users_set_updated_at")
    postgresql.apply(server, declared, secrets)
    assert [change.kind for change in postgresql.apply(server, declared, secrets)] == ["shape"]
    assert list(postgresql.plan(server, declared, secrets)) == []
