"""Every kind of object: broken by hand, the plan names it, apply mends it, the plan is empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import yaml

from dbkeep import postgresql
from dbkeep.plan import Risk
from dbkeep.postgresql import Declared
from dbkeep.postgresql.connect import NEWEST, OLDEST
from dbkeep.settings import PostgreSQLSettings

Connect = Callable[..., psycopg.Connection[tuple[Any, ...]]]


class Break(NamedTuple):
    name: str
    sql: str
    kind: str
    target: str
    risk: str = "safe"
    leaves: str = ""
    since: int = OLDEST
    mend: str = ""


FILES = ("breaks.yml", "role_breaks.yml", "grant_breaks.yml", "object_breaks.yml")
BREAKS = [
    Break(**case)
    for file in FILES
    for case in yaml.safe_load(Path(__file__).with_name(file).read_text(encoding="utf-8"))
]
VERSIONS = range(OLDEST, NEWEST + 1)
CASES = [
    # The daily run has the versions of Debian 12 and 13.
    pytest.param(version, case, id=f"{version}: {case.name}", marks=() if version in (15, 17) else pytest.mark.long)
    for version in VERSIONS
    for case in BREAKS
    if version >= case.since
]


@pytest.mark.parametrize(("version", "case"), CASES)
def test_break_is_named_and_mended(
    version: int,
    case: Break,
    of_version: Callable[[int], PostgreSQLSettings],
    declared: Declared,
    secrets: dict[str, str],
) -> None:
    server = of_version(version)
    with postgresql.connect(server) as session:
        session.execute(case.sql.encode())
    made = postgresql.apply(server, declared, secrets)
    held = tuple(postgresql.plan(server, declared, secrets))
    if held:
        postgresql.apply(server, declared, secrets, allow_destructive=True)
    with postgresql.connect(server) as session:
        session.execute(case.mend.encode())
    assert (case.kind, case.target, case.risk) in {(change.kind, change.target, change.risk) for change in made + held}
    assert {change.risk for change in held} == (
        {Risk.DESTRUCTIVE} if "destructive" in (case.risk, case.leaves) else set()
    )
    if held or case.mend:
        assert [(change.kind, change.target) for change in postgresql.plan(server, declared, secrets)] == []


def test_outside_the_scope_nothing_is_touched(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], connect: Connect
) -> None:
    with connect() as session:
        session.execute("CREATE ROLE reporting LOGIN")
        session.execute("CREATE SCHEMA elsewhere AUTHORIZATION reporting")
        session.execute("CREATE TABLE elsewhere.t (id int)")
        session.execute("GRANT SELECT ON elsewhere.t TO PUBLIC")
    try:
        assert list(postgresql.plan(server, declared, secrets)) == []
    finally:
        with connect() as session:
            session.execute("DROP SCHEMA elsewhere CASCADE")
            session.execute("DROP ROLE reporting")


def test_an_outsider_keeps_what_a_managed_role_reaches_through_it(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], connect: Connect
) -> None:
    with connect() as session:
        session.execute("CREATE ROLE reporting; GRANT pg_read_all_data TO reporting; GRANT reporting TO app_api")
    try:
        plan = postgresql.plan(server, declared, secrets)
        assert [(change.kind, change.target) for change in plan] == [("membership", "app_api in reporting")]
        postgresql.apply(server, declared, secrets)
    finally:
        with connect() as session:
            session.execute("DROP ROLE reporting")
    assert list(postgresql.plan(server, declared, secrets)) == []


def test_lost_table_is_refused(
    server: PostgreSQLSettings, declared: Declared, secrets: dict[str, str], connect: Connect
) -> None:
    with connect() as session:
        session.execute("ALTER TABLE chat.settings RENAME TO lost")
    try:
        plan = postgresql.plan(server, declared, secrets)
        refused = {change.target: change.refused for change in plan if change.refused}
        assert list(refused) == ["chat.settings"]
    finally:
        with connect() as session:
            session.execute("ALTER TABLE chat.lost RENAME TO settings")
    assert list(postgresql.plan(server, declared, secrets)) == []
