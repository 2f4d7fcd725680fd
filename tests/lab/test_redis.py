"""Redis 7.0, Redis 8.0 and Valkey 8.1 on the hosts that have them: each promise seen on a real host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbkeep.environment import Host, read_environment
from dbkeep.redis import read_declared

from .breakages.shell import redis
from .conftest import NAME, dbkeep
from .test_drift import playbook

ROOT = Path(__file__).parents[2]
# The session's lab runs the first; the others bring up labs of their own.
LABS = [
    pytest.param((NAME, "bookworm", "redis"), id="Redis 7.0"),
    pytest.param(("redis8", "trixie", "redis"), id="Redis 8.0", marks=pytest.mark.long),
    pytest.param(("valkey", "trixie", "valkey"), id="Valkey 8.1", marks=pytest.mark.long),
]


@dataclass(frozen=True)
class Site:
    """A lab and the server that its instances run."""

    name: str
    server: str

    @property
    def host(self) -> Host:
        return read_environment(self.name).all_hosts[0]

    @property
    def file(self) -> str:
        return f"/etc/{self.server}/{self.server}-state.conf"

    @property
    def variables(self) -> Path:
        return ROOT / "inventory" / self.name / "group_vars" / "all" / "redis.yml"

    def declare(self, text: str) -> None:
        """Give the environment further variables of the role."""
        self.variables.write_text(f"redis_server: {self.server}\n{text}", encoding="utf-8")

    def run(self, command: str) -> str:
        """Run a shell command on the host as ops and return all that it said."""
        done = dbkeep("lab", "exec", f"{self.name}-1", command)
        return (done.out + done.err).strip()

    def ask(self, instance: str, command: str) -> str:
        return self.run(redis(instance, command, self.server))

    def value(self, instance: str, setting: str) -> str:
        return self.ask(instance, f"CONFIG GET {setting}").splitlines()[1]


@pytest.fixture(scope="module", params=LABS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    name, release, server = request.param
    if name == NAME:
        request.getfixturevalue("lab")
        shared = Site(name, server)
        yield shared
        shared.variables.unlink(missing_ok=True)
        return
    try:
        assert dbkeep("init", name).status == 0
        found = Site(name, server)
        found.declare("")
        first = dbkeep("up", "--name", name, "--release", release, "--json", timeout=1500)
        assert first.status == 0, first.err
        assert first.json["checks"]["fail"] == 0
        yield found
    finally:
        assert dbkeep("down", "--purge", "--name", name).status == 0


@pytest.mark.long
def test_a_repeated_up_is_green_and_changes_nothing(site: Site) -> None:
    again = dbkeep("up", "--name", site.name, "--json")
    assert again.status == 0, again.err
    assert again.json["checks"]["fail"] == 0
    assert [host["changed"] for host in again.json["hosts"]] == [0]


def test_the_memory_limit_is_the_declared_share_of_the_host(site: Site) -> None:
    total = int(site.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    for name, instance in read_declared(ROOT).instances.instances.items():
        limit = int(site.value(name, "maxmemory"))
        assert 0.99 * instance.memory_share * total < limit <= instance.memory_share * total


def test_state_is_on_disk_with_times_and_the_cache_is_not(site: Site) -> None:
    data = f"/var/lib/{site.server}"
    assert site.ask("state", "SET sess:probe 1 EX 60") == "OK"
    assert site.ask("cache", "SET cache:probe 1 EX 60") == "OK"
    assert int(site.run(f"sudo sh -c 'sleep 1.5; cat {data}/state/appendonlydir/*.incr.aof' | grep -c '^#TS:'")) > 0
    assert site.run(f"sudo find {data}/cache -type f") == ""
    for instance in ("state", "cache"):
        site.run(f"sudo systemctl kill -s KILL {site.server}-server@{instance}; sleep 4")
    assert site.ask("state", "GET sess:probe") == "1"
    assert site.ask("cache", "DBSIZE") == "0"
    assert site.ask("state", "BGSAVE") == "Background saving started"
    assert site.run(f"sudo sh -c 'sleep 1; ls {data}/state/dump.rdb'") == f"{data}/state/dump.rdb"


REFUSED = {
    "CONFIG SET dir /tmp": "can't set protected config",
    "CONFIG SET enable-debug-command yes": "can't set immutable config",
    "CONFIG REWRITE": "Rewriting config file",
    "DEBUG SLEEP 0": "DEBUG command not allowed",
    "MODULE LOAD /tmp/x.so": "MODULE command not allowed",
}


@pytest.mark.parametrize("command", REFUSED)
@pytest.mark.parametrize("instance", ["state", "cache"])
def test_not_even_the_administrator_may(site: Site, instance: str, command: str) -> None:
    assert REFUSED[command] in site.ask(instance, command)


@pytest.mark.parametrize("instance", ["state", "cache"])
def test_plaintext_and_anonymous_connections_are_refused(site: Site, instance: str) -> None:
    port = {"state": "redis_state_port", "cache": "redis_cache_port"}[instance]
    number = read_environment(site.name).variables[port]
    assert "PONG" not in site.run(f"{site.server}-cli -h 127.0.0.1 -p {number} PING")
    secured = f"sudo {site.server}-cli --tls --cacert /etc/dbkeep/tls/ca.crt -h 127.0.0.1 -p {number} PING"
    assert "NOAUTH" in site.run(secured)


def test_a_service_can_write_nowhere_else_and_start_nothing(site: Site) -> None:
    unit = f"{site.server}-server@state.service"
    pid = site.run(f"systemctl show -P MainPID {unit}")
    inside = f"/proc/{pid}/root"
    for folder in ("etc", "usr/bin", "var/lib", "var/lib/postgresql"):
        assert "Read-only file system" in site.run(f"sudo touch {inside}/{folder}/probe")
    assert "Permission denied" in site.run(f"sudo nsenter -t {pid} -m /usr/bin/id"), "it may start other programs"
    moved = site.run(f"sudo -u {site.server} mv {site.file} {site.file}.moved")
    assert "Operation not permitted" in moved, "it may replace its own configuration"
    capabilities = site.run(f"grep -E '^Cap(Eff|Bnd)' /proc/{pid}/status")
    assert {line.split()[1] for line in capabilities.splitlines()} == {"0" * 16}
    score = site.run(f"systemd-analyze security --no-pager {unit} | tail -1")
    assert float(score.split(": ")[1].split()[0]) < 3, score


def test_what_apply_sets_survives_a_restart(site: Site) -> None:
    site.ask("state", "CONFIG SET appendfsync no")
    site.ask("state", "CONFIG SET lfu-decay-time 0")
    drift = dbkeep("drift", "-e", site.name, "redis")
    assert drift.status == 1
    assert 'state appendfsync: is "no", declared "everysec"' in drift.out
    assert 'state lfu-decay-time: is "0", not declared, by default "1"' in drift.out
    assert dbkeep("apply", "-e", site.name, "redis").status == 0
    site.run(f"sudo systemctl restart {site.server}-server@state")
    assert site.value("state", "appendfsync") == "everysec"
    assert dbkeep("drift", "-e", site.name, "redis").status == 0


@pytest.mark.long
def test_a_file_edited_by_hand_is_drift_before_and_after_the_start_that_reads_it(site: Site) -> None:
    site.run(f"sudo sed -i 's/^databases .*/databases 9/' {site.file}")
    drift = dbkeep("drift", "-e", site.name, "redis")
    assert drift.status == 1
    assert "differs in databases: the next start would read that" in drift.out
    site.run(f"sudo systemctl restart {site.server}-server@state")
    drift = dbkeep("drift", "-e", site.name, "redis")
    assert 'databases is "9", declared "1"' in drift.out
    applied = dbkeep("apply", "-e", site.name, "redis")
    assert "redis_restart_allowed=true" in applied.out + applied.err
    assert site.value("state", "databases") == "9"
    assert site.run(f"sudo grep ^databases {site.file}") == "databases 1"
    allowed = playbook(site.name, "--tags", "redis", "-e", "redis_restart_allowed=true")
    assert allowed.returncode == 0, allowed.stdout
    assert site.value("state", "databases") == "1"
    assert playbook(site.name, "--tags", "redis").returncode == 0
    assert dbkeep("drift", "-e", site.name, "redis").status == 0


def test_a_value_that_the_server_does_not_take_reaches_no_file(site: Site) -> None:
    before = site.run(f"sudo cat {site.file}")
    try:
        site.declare("redis_settings: {state: {maxclients: many}}\n")
        refused = playbook(site.name, "--tags", "redis")
        assert refused.returncode != 0
        said = " ".join((refused.stdout + refused.stderr).split())
        assert f"`maxclients many`: {site.server} does not take it" in said
        assert site.run(f"sudo cat {site.file}") == before
    finally:
        site.declare("")
    assert dbkeep("drift", "-e", site.name, "redis").status == 0


@pytest.mark.long
def test_the_other_server_is_refused_where_one_has_data(site: Site) -> None:
    other = {"redis": "valkey", "valkey": "redis"}[site.server]
    refused = playbook(site.name, "--tags", "redis", "-e", f"redis_server={other}")
    assert refused.returncode != 0
    assert f"has instances of {site.server} already: keep redis_server as it was" in " ".join(refused.stdout.split())


@pytest.mark.long
def test_a_restore_brings_keys_back(site: Site) -> None:
    assert site.ask("state", "SET sess:kept 1 EX 3600") == "OK"
    run = dbkeep("backup", "run", "-e", site.name, "--json")
    assert run.status == 0, run.err
    site.ask("state", "FLUSHALL")
    restored = dbkeep("restore", "-e", site.name, "--engine", "redis", "--set", run.json["set_id"], "--yes")
    assert restored.status == 0, restored.out + restored.err
    assert site.ask("state", "GET sess:kept") == "1"
    assert dbkeep("drift", "-e", site.name, "redis").status == 0
    assert dbkeep("backup", "run", "-e", site.name).status == 0
