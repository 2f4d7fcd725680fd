"""What the plan makes of a server's settings, case by case; the real server is in tests/engines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dbkeep.plan import Risk
from dbkeep.postgresql import read_declared
from dbkeep.postgresql.configuration import drop_in, drop_ins
from dbkeep.postgresql.diff.settings import diff
from dbkeep.postgresql.inspect.settings import Line, LiveConfiguration, LiveSetting
from dbkeep.postgresql.server import ResetSetting, Restart, WriteFile
from dbkeep.settings import PostgreSQLServer, PostgreSQLSettings

DECLARED = read_declared(Path(__file__).parents[3])
FILE, AUTOMATIC = Path("/conf.d/60-dbkeep.conf"), Path("/data/postgresql.auto.conf")
UNIT = "postgresql@17-main.service"
SERVER = PostgreSQLServer(configuration_file=FILE, memory_bytes=1024**3, processors=2, unit=UNIT)
HOST = PostgreSQLSettings(socket_directory=Path("/s"), port=1, server=SERVER)
POSTMASTER = {"max_connections", "shared_buffers"}


def live(major: int = 17, automatic: str = "", **changed: str) -> LiveConfiguration:
    """A server that is as declared but for `changed` values and what ALTER SYSTEM wrote."""
    ((_, wanted),) = drop_ins(DECLARED.configuration, HOST, major).items()
    settings = {
        name: LiveSetting(changed.get(name, value), "postmaster" if name in POSTMASTER else "sighup")
        for name, value in wanted.items()
    }
    lines = [Line(name, value, FILE, number) for number, (name, value) in enumerate(sorted(wanted.items()), 2)]
    for number, line in enumerate(automatic.splitlines(), 1):
        name, _, value = line.partition(" = ")
        lines.append(Line(name, value.strip("'"), AUTOMATIC, number))
    files: dict[Path, str | None] = {FILE: drop_in(wanted), AUTOMATIC: automatic}
    return LiveConfiguration(major * 10000, settings, tuple(lines), AUTOMATIC, files)


def test_a_server_as_declared_has_no_change() -> None:
    assert diff(DECLARED, live(), HOST) == ([], [])


def test_where_alter_system_is_forbidden_its_file_loses_our_lines_and_no_others() -> None:
    text = "work_mem = '1GB'\nenable_seqscan = 'off'\nJIT = 'on'\n"
    (first, *_), _ = diff(DECLARED, live(17, text.lower()), HOST)
    assert first.target == "jit"
    assert isinstance(first.operation, WriteFile)
    assert first.operation.new_text == "enable_seqscan = 'off'\n"
    (allowed,), _ = diff(DECLARED, live(16, "work_mem = '1GB'\n"), HOST)
    assert isinstance(allowed.operation, ResetSetting)
    assert allowed.before == "1GB"


def test_a_restart_waits_until_it_is_allowed() -> None:
    state = live(max_connections="50", shared_buffers="8MB")
    reloads, (waiting,) = diff(DECLARED, state, HOST)
    assert reloads == []
    assert (waiting.risk, waiting.target) == (Risk.LOCKING, "server")
    assert "-e postgresql_restart_allowed=true" in (waiting.waits_for or "")
    server = SERVER.model_copy(update={"restart_allowed": True})
    _, (allowed,) = diff(DECLARED, state, HOST.model_copy(update={"server": server}))
    assert allowed.waits_for is None
    assert allowed.operation == Restart(UNIT)
    assert allowed.summary == 'max_connections is "50", declared "100"; shared_buffers is "8MB", declared "256MB"'


def test_what_a_session_brings_along_says_nothing_about_the_server() -> None:
    state = live(lock_timeout="5000")
    mine = {**state.settings, "lock_timeout": replace(state.settings["lock_timeout"], source="client")}
    assert diff(DECLARED, replace(state, settings=mine), HOST) == ([], [])
    (reload,), _ = diff(DECLARED, state, HOST)
    assert (reload.kind, reload.summary) == ("reload", 'lock_timeout is "5000", declared "30s"')


def test_a_library_that_is_not_loaded_yet_is_the_restarts_matter() -> None:
    state = live(shared_preload_libraries="")
    unknown = {name: value for name, value in state.settings.items() if not name.startswith("pgaudit.")}
    unknown["shared_preload_libraries"] = replace(unknown["shared_preload_libraries"], context="postmaster")
    reloads, (restart,) = diff(DECLARED, replace(state, settings=unknown), HOST)
    assert reloads == []
    assert restart.summary.startswith('shared_preload_libraries is ""')
