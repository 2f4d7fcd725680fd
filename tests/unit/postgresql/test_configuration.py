"""The rendering of sql/settings.yml and of client authentication for a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dbkeep.errors import UsageError
from dbkeep.postgresql import hba, read_declared
from dbkeep.postgresql.configuration import archive_settings, drop_in, drop_ins, server_settings
from dbkeep.settings import PostgreSQLAccess, PostgreSQLServer, PostgreSQLSettings, read_settings

DECLARED = read_declared(Path(__file__).parents[3])
GIBIBYTE = 1024**3


def settings(major: int = 15, *, gibibytes: float = 4, processors: float = 4, **own: Any) -> dict[str, str]:
    host = PostgreSQLServer(
        configuration_file=Path("/conf.d/60-dbkeep.conf"), settings=own, memory_bytes=int(gibibytes * GIBIBYTE),
        processors=processors,
    )  # fmt: skip
    return server_settings(DECLARED.configuration, host, major)


@pytest.mark.parametrize(
    ("gibibytes", "expected"),
    [
        (0.02, {"shared_buffers": "16MB", "effective_cache_size": "16MB", "work_mem": "4MB"}),
        (4, {"shared_buffers": "1024MB", "effective_cache_size": "3072MB", "work_mem": "10MB"}),
        (256, {"shared_buffers": "65536MB", "work_mem": "640MB", "maintenance_work_mem": "1024MB"}),
    ],
)
def test_memory_comes_from_the_share_of_the_host(gibibytes: float, expected: dict[str, str]) -> None:
    found = settings(gibibytes=gibibytes)
    assert {name: found[name] for name in expected} == expected


def test_a_few_megabytes_more_or_less_are_no_change() -> None:
    assert settings(gibibytes=3.83) == settings(gibibytes=3.84)


@pytest.mark.parametrize(
    ("processors", "expected"),
    [(1, ("8", "1", "1")), (3.5, ("8", "3", "1")), (12, ("12", "12", "4")), (64, ("64", "64", "4"))],
)
def test_workers_come_from_the_processors(processors: float, expected: tuple[str, ...]) -> None:
    found = settings(processors=processors)
    names = ("max_worker_processes", "max_parallel_workers", "max_parallel_workers_per_gather")
    assert tuple(found[name] for name in names) == expected


def test_an_older_server_gets_no_setting_that_it_does_not_know() -> None:
    later = {"ssl_groups": 18, "ssl_tls13_ciphers": 18, "log_lock_failures": 18, "allow_alter_system": 17}
    for major in (15, 16, 17, 18):
        assert {name for name in settings(major) if name in later} == {
            n for n, since in later.items() if since <= major
        }


def test_the_host_wins_and_what_depends_on_it_follows() -> None:
    found = settings(max_connections=50, jit=True, random_page_cost=1.1, shared_buffers="2GB")
    assert found["work_mem"] == "20MB"
    assert (found["jit"], found["random_page_cost"], found["shared_buffers"]) == ("on", "1.1", "2GB")
    with pytest.raises(UsageError, match=r"postgresql_settings: max_connections is 'many': work_mem needs a whole"):
        settings(max_connections="many")


def test_a_file_is_quoted_and_in_order() -> None:
    text = drop_in({"b": "it's", "a": "back\\slash %m"})
    assert text.splitlines()[1:] == ["a = 'back\\\\slash %m'", "b = 'it''s'"]


def test_the_archive_has_a_file_of_its_own_where_there_is_one() -> None:
    assert archive_settings(DECLARED.configuration, {"archive_timeout": "30s"})["archive_timeout"] == "30s"
    bare = PostgreSQLSettings(socket_directory=Path("/s"), port=1)
    assert drop_ins(DECLARED.configuration, bare, 15) == {}
    archive = {"configuration_file": "/conf.d/70.conf"}
    with_archive = PostgreSQLSettings.model_validate({**bare.model_dump(), "archive": archive})
    assert drop_ins(DECLARED.configuration, with_archive, 15)[Path("/conf.d/70.conf")]["archive_mode"] == "on"


def rules(*api_addresses: str, own: tuple[str, ...] = ("127.0.0.1", "198.18.0.11")) -> list[list[str]]:
    access = PostgreSQLAccess(
        hba_file=Path("/hba"), ident_file=Path("/ident"), own_addresses=own, api_addresses=api_addresses,
        api_roles=("app_api", "app_auth"),
    )  # fmt: skip
    lines = hba.hba(DECLARED, access).splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def test_each_host_of_the_api_gets_one_rule_for_the_roles_of_the_api() -> None:
    found = rules("198.18.0.12", "2001:db8::5", "api.example.com", "10.1.0.0/16", "198.18.0.12", "198.18.0.11")
    assert [rule[1:4] for rule in found if rule[0] == "hostssl"][2:] == [
        ["chat", "app_api,app_auth", address]
        for address in ("198.18.0.12/32", "2001:db8::5/128", "api.example.com", "10.1.0.0/16")
    ]


def test_no_rule_is_wider_than_it_must_be() -> None:
    found = rules("198.18.0.12")
    local, *network = found
    assert local == ["local", "chat,postgres,template1", "postgres", "peer", "map=dbkeep"]
    assert {(rule[0], rule[4]) for rule in network} == {("hostssl", "scram-sha-256")}
    words = {word for rule in found for field in rule for word in field.split(",")}
    assert not words & {"all", "replication", "trust", "samenet", "samehost", "0.0.0.0/0", "::/0"}
    assert "postgres" not in {role for rule in network for role in rule[2].split(",")}


def test_the_cluster_is_copied_at_the_socket_only_where_the_backup_needs_it() -> None:
    access = PostgreSQLAccess(hba_file=Path("/hba"), ident_file=Path("/ident"), own_addresses=("127.0.0.1",))
    allowed = access.model_copy(update={"local_replication": True})
    more = set(hba.hba(DECLARED, allowed).splitlines()) - set(hba.hba(DECLARED, access).splitlines())
    assert more == {"local replication postgres peer map=dbkeep"}


def test_a_host_on_ipv6_and_no_api_leave_the_roles_of_this_host() -> None:
    assert [rule[3] for rule in rules(own=("127.0.0.1", "fd00::1"))[1:]] == ["127.0.0.1/32", "fd00::1/128"]


def test_a_role_adds_to_the_agents_settings_of_another(tmp_path: Path) -> None:
    (tmp_path / "postgresql.json").write_text('{"socket_directory": "/s", "port": 1}', encoding="utf-8")
    alone = read_settings("postgresql", PostgreSQLSettings, tmp_path)
    assert alone
    assert alone.archive is None
    (tmp_path / "postgresql.d").mkdir()
    addition = tmp_path / "postgresql.d" / "archive.json"
    addition.write_text('{"archive": {"configuration_file": "/conf.d/70.conf"}}', encoding="utf-8")
    added = read_settings("postgresql", PostgreSQLSettings, tmp_path)
    assert added
    assert added.files == (Path("/conf.d/70.conf"),)
    addition.write_text('{"archive": 1}', encoding="utf-8")
    with pytest.raises(UsageError, match=r"postgresql.json: archive: "):
        read_settings("postgresql", PostgreSQLSettings, tmp_path)
