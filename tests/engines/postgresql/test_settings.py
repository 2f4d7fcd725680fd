"""The server's settings on a real server: each way to break them is named and mended, a restart only when allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dbkeep import postgresql
from dbkeep.plan import ApplyError
from dbkeep.postgresql import Declared
from dbkeep.postgresql.configuration import drop_in, server_settings
from dbkeep.postgresql.diff.settings import canonical
from dbkeep.postgresql.inspect.settings import inspect
from dbkeep.sandbox import postgresql as sandbox
from dbkeep.settings import PostgreSQLAccess

from .configured_server import Server, configuration, write

VERSIONS = (15,)


@pytest.fixture(scope="module", params=VERSIONS)
def server(
    request: pytest.FixtureRequest, servers: Path, declared: Declared, secrets: dict[str, str]
) -> Iterator[Server]:
    """A server that is as declared, its settings too; a test that breaks it mends it."""
    host = configuration(servers / f"conf{request.param}")
    settings = server_settings(declared.configuration, host, request.param)
    write(host.configuration_file, drop_in(settings))
    with sandbox.start(
        servers / f"settings{request.param}", version=request.param, fast=False,
        include_directory=host.configuration_file.parent,
    ) as reached:  # fmt: skip
        running = Server(reached.model_copy(update={"server": host}), declared, secrets)
        running.apply()
        yield running


@pytest.fixture
def guarded(server: Server) -> Iterator[Server]:
    """The server with its client authentication files in our care; the sandbox's own come back."""
    place = server.settings.socket_directory.parent
    access = PostgreSQLAccess(
        hba_file=place / "pg_hba.conf", ident_file=place / "pg_ident.conf",
        own_addresses=("127.0.0.1", "198.18.0.11"), api_addresses=("198.18.0.11", "198.18.0.12", "2001:db8::5"),
        api_roles=("app_api", "app_auth"),
    )  # fmt: skip
    kept = access.hba_file.read_text(encoding="utf-8")
    settings = server.settings.model_copy(update={"access": access})
    yield Server(settings, server.declared, server.secrets)
    for path, text in ((access.hba_file, kept), (access.ident_file, "")):
        write(path, text)
    server.execute("SELECT pg_reload_conf()")


class Break(NamedTuple):
    """How to break a setting: ALTER SYSTEM, or what our file gets in place of its line (None: the file is gone)."""

    name: str
    setting: str = ""
    value: str = ""
    line: str | None = None
    reload: bool = True

    @property
    def named(self) -> tuple[str, str]:
        return ("server setting", self.setting) if self.value else FILE


FILE = ("configuration file", "60-dbkeep.conf")
BREAKS = (
    Break("ALTER SYSTEM", "work_mem", "1GB"),
    Break("the same value", "fsync", "on"),
    Break("not loaded", "fsync", "off", reload=False),
    Break("start only", "huge_pages", "off"),
    Break("library's setting", "pg_stat_statements.track", "none"),
    Break("edited", "log_statement", line="log_statement = 'none'"),
    Break("edited, not loaded", "log_statement", line="log_statement = 'none'", reload=False),
    Break("line added", "jit", line="jit = 'off'\nenable_seqscan = off"),
    Break("unreadable", "jit", line="jit ="),
    Break("start only, edited", "max_connections", line="max_connections = 50"),
    Break("deleted"),
    Break("deleted, not loaded", reload=False),
)


@pytest.mark.parametrize("case", BREAKS, ids=[case.name for case in BREAKS])
def test_break_is_named_and_mended(case: Break, server: Server) -> None:
    before = server.file.read_text(encoding="utf-8")
    if case.value:
        server.alter_system(case.setting, case.value)
    elif case.line is None:
        server.file.unlink()
    else:
        lines = [case.line if line.startswith(f"{case.setting} =") else line for line in before.splitlines()]
        write(server.file, "\n".join(lines) + "\n")
    if case.reload:
        server.reload()
    try:
        assert server.named() == {case.named}
    finally:
        server.apply()
    assert server.named() == set()
    assert server.file.read_text(encoding="utf-8") == before
    assert server.file.stat().st_mode & 0o007 == 0
    assert server.execute("SHOW work_mem") != ("1GB",)
    assert server.execute("SHOW log_statement") == ("ddl",)


def test_a_later_file_is_named_and_left_to_a_person(server: Server) -> None:
    later = server.file.with_name("90-local.conf")
    write(later, "# ours\nwork_mem = '512MB'\n")
    try:
        change, *others = server.plan()
        assert not others
        assert (change.target, change.summary) == ("work_mem", f'is set to "512MB" by {later}:2')
        assert change.waits_for
        assert server.apply() == ()
        server.reload()
        # In force it is the same: what waits for a person is no reason to reload or restart.
        assert server.apply() == ()
        assert server.named() == {("server setting", "work_mem")}
    finally:
        later.unlink()
    assert server.named() == {("reload", "server")}
    server.apply()
    assert server.named() == set()


def test_a_file_that_stops_every_reload_is_named(server: Server) -> None:
    later = server.file.with_name("90-local.conf")
    write(later, "work_mem 12 34\n")
    try:
        change, *others = server.plan()
        assert not others
        assert (change.target, change.summary) == (f"{later}:1", "syntax error")
    finally:
        later.unlink()
    assert server.named() == set()


def test_what_needs_a_restart_is_said_and_left_until_it_is_allowed(server: Server) -> None:
    changed = server.with_settings(max_connections=150, log_min_duration_statement="2s")
    started = server.execute("SELECT pg_postmaster_start_time()")
    try:
        assert changed.named() == {FILE, ("restart", "server")}
        assert [change.kind for change in changed.apply()] == ["configuration file"]
        assert server.execute("SHOW log_min_duration_statement") == ("2s",)
        assert server.execute("SHOW max_connections") == ("100",)
        (left,) = changed.plan()
        assert left.summary == 'max_connections is "100", declared "150"'
        assert "-e postgresql_restart_allowed=true" in (left.waits_for or "")
        assert server.execute("SELECT pg_postmaster_start_time()") == started
    finally:
        server.apply()
    assert server.named() == set()


def test_a_value_that_the_server_does_not_take_changes_nothing(server: Server) -> None:
    before = server.file.read_text(encoding="utf-8")
    for settings, message in (
        ({"work_mem": "lots"}, '"lots" is no number with a unit like kB'),
        ({"work_mem": "1kB"}, "1kB is outside 64 to"),
        ({"log_statement": "most"}, '"most" is none of none, ddl, mod, all'),
        ({"jit": "maybe"}, '"maybe" is none of on, off'),
        ({"work_memory": "1GB"}, "no such setting"),
        ({"timezone": "Nowhere/None"}, "the server refuses .*timezone"),
    ):
        with pytest.raises(ApplyError, match=message):
            server.with_settings(**settings).apply()
        assert server.file.read_text(encoding="utf-8") == before
    assert server.named() == set()


SPELLINGS = (
    *(("work_mem", text) for text in ("65536", "64MB", "0.0625GB", " 64 MB ", "65536kB", "67108864B")),
    *(("lock_timeout", text) for text in ("1000", "1s", "0.5min", "1500us", "1e3", "1d")),
    *(("log_min_duration_statement", text) for text in ("-1", "0", "250ms")),
    *(("jit", text) for text in ("on", "TRUE", "yes", "1", "Off", "0")),
    *(("wal_compression", text) for text in ("on", "off", "pglz", "true")),
    *(("log_statement", text) for text in ("DDL", "none")),
    *(("synchronous_commit", text) for text in ("on", "remote_apply", "true", "0")),
    *(("random_page_cost", text) for text in ("1.1", "4", "1e1")),
)


def test_spellings_are_one_value_as_the_server_says(server: Server) -> None:
    with postgresql.connect(server.settings, "postgres") as connection:
        for name, text in SPELLINGS:
            with connection.transaction(force_rollback=True):
                have = inspect(connection, ()).settings[name]
                connection.execute("SELECT set_config(%s, %s, true)", [name, text])
                row = connection.execute("SELECT setting FROM pg_settings WHERE name = %s", [name]).fetchone()
                assert row
                assert canonical(name, text, have) == canonical(name, row[0], have), (name, text)


def test_a_setting_of_the_command_line_is_named(
    servers: Path, server: Server, declared: Declared, secrets: dict[str, str]
) -> None:
    version = int(postgresql.version(server.settings).split(".")[0])
    with sandbox.start(
        servers / f"command{version}", version=version, fast=False, include_directory=server.file.parent,
        options={"work_mem": "128MB"},
    ) as reached:  # fmt: skip
        started = Server(reached.model_copy(update={"server": server.settings.server}), declared, secrets)
        change, *others = [change for change in started.plan() if change.target in ("work_mem", "server")]
    assert not others
    assert (change.target, change.summary) == ("work_mem", 'is set to "131072" by the command line')
    assert change.waits_for


def test_who_logs_on_from_where_is_named_and_mended(guarded: Server) -> None:
    access = guarded.settings.access
    assert access
    assert guarded.named() == {("configuration file", "pg_hba.conf"), ("configuration file", "pg_ident.conf")}
    guarded.apply()
    assert guarded.named() == set()
    assert guarded.execute("SELECT count(*), count(error) FROM pg_hba_file_rules") == (5, 0)
    assert guarded.execute("SELECT count(*), count(error) FROM pg_ident_file_mappings") == (2, 0)

    text = access.hba_file.read_text(encoding="utf-8")
    write(access.hba_file, text + "host all all 0.0.0.0/0 trust\n")
    guarded.reload()
    (change,) = guarded.plan()
    assert change.before == "host all all 0.0.0.0/0 trust"
    assert change.summary == "has 1 lines that are not ours and lacks 0"
    # Mended by hand and not read: the open line is still in force.
    write(access.hba_file, text)
    assert guarded.named() == {("reload", "server")}
    guarded.apply()
    assert guarded.named() == set()


def test_a_rule_that_the_server_does_not_take_is_not_kept(guarded: Server) -> None:
    access = guarded.settings.access
    assert access
    before = access.hba_file.read_text(encoding="utf-8")
    wrong = access.model_copy(update={"api_addresses": ("198.18.0.0/99",)})
    settings = guarded.settings.model_copy(update={"access": wrong})
    with pytest.raises(ApplyError, match=r"the server refuses .*pg_hba.conf:\d+: invalid CIDR mask"):
        Server(settings, guarded.declared, guarded.secrets).apply()
    assert access.hba_file.read_text(encoding="utf-8") == before
