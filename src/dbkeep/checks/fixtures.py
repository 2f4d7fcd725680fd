"""What control files ask for by name: the host they look at, facts from it, and connections as the real roles."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import testinfra
from testinfra.host import Host as Testinfra

from dbkeep.backup.controller.sets import placed
from dbkeep.checks.access import Access
from dbkeep.checks.control import not_applicable
from dbkeep.checks.observations import Facts, Observations
from dbkeep.checks.plugin import ENVIRONMENT, OBSERVED, VERSIONS, WAIVERS, Observe
from dbkeep.checks.waivers import Waivers
from dbkeep.environment import Environment, Host
from dbkeep.remote import call, ssh_command


@pytest.fixture(scope="session", autouse=True)
def target(request: pytest.FixtureRequest) -> Host | None:
    """The host that the control is asked about; None on the controller."""
    asked: Host | None = request.param
    return asked


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Observe:
    """Record what was seen, by name; it becomes the evidence of the control. Never a secret."""
    return request.config.stash[OBSERVED].update


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Environment:
    return request.config.stash[ENVIRONMENT]


@pytest.fixture(scope="session")
def waivers(request: pytest.FixtureRequest) -> Waivers:
    return request.config.stash[WAIVERS]


@pytest.fixture(scope="session")
def host(target: Host) -> Testinfra:
    """The host for testinfra's modules, as root, over the shared SSH connection."""
    options = ssh_command(target)[1:-1]
    backend = f"ssh://{target.user}@{target.address}:{target.port}"
    return testinfra.get_host(backend, ssh_extra_args=shlex.join(options), sudo=True)


@pytest.fixture(scope="session")
def observations(request: pytest.FixtureRequest, environment: Environment) -> Iterator[Observations]:
    areas = {item.path.parent.name for item in request.session.items}
    with ThreadPoolExecutor(max_workers=6) as pool:
        observations = Observations(environment, areas, pool)
        for asked in environment.all_hosts:
            observations.expect(asked)
        yield observations


@pytest.fixture(scope="session")
def facts(request: pytest.FixtureRequest, observations: Observations, target: Host) -> Callable[[str], Facts]:
    """Return what one observer of dbkeep.checks.facts sees on the host."""

    def gather(name: str) -> Facts:
        answer = observations.facts(target, name)
        request.config.stash[VERSIONS].setdefault(target.name, {}).update(answer["versions"])
        return answer

    return gather


@pytest.fixture(scope="session")
def host_facts(facts: Callable[[str], Facts]) -> Facts:
    return facts("host")


@pytest.fixture(scope="session")
def leaks(facts: Callable[[str], Facts]) -> Facts:
    return facts("leaks")


@pytest.fixture(scope="session")
def postgresql_facts(facts: Callable[[str], Facts]) -> Facts:
    return facts("postgresql")


@pytest.fixture
def people(postgresql_facts: Facts) -> dict[str, Any]:
    """Two active users (`id`, `other_id`) and how many rows of others there are to hide from the first."""
    found: dict[str, Any] | None = postgresql_facts["people"]
    if found is None:
        not_applicable("the database has fewer than two active users: there is nothing to isolate yet")
    return found


@pytest.fixture(scope="session")
def mongodb_facts(facts: Callable[[str], Facts]) -> Facts:
    return facts("mongodb")


@pytest.fixture
def mongodb_primary(mongodb_facts: Facts, target: Host) -> Host:
    """The host, where its server takes writes: a secondary refuses before it looks at who asks and for what."""
    if not mongodb_facts["replica_set"]["writable"]:
        not_applicable("a secondary takes no writes; the primary's host is asked")
    return target


@pytest.fixture(scope="session")
def redis_facts(facts: Callable[[str], Facts]) -> Facts:
    return facts("redis")


@pytest.fixture(scope="session")
def redis_dry_run(target: Host) -> Callable[[list[list[str]]], dict[str, list[dict[str, Any]]]]:
    """Ask each instance whether its ACL allows the attempts ([user, command, arguments...]), without running them."""

    def dry_run(attempts: list[list[str]]) -> dict[str, list[dict[str, Any]]]:
        instances = call(target, ["facts", "redis"], {"attempts": attempts})["instances"]
        return {name: instance["dry_runs"] for name, instance in instances.items()}

    return dry_run


@pytest.fixture(scope="session")
def backup_facts(facts: Callable[[str], Facts], environment: Environment, target: Host) -> Facts:
    if target not in placed(environment):
        not_applicable("the first host of its group backs up what is here")
    return facts("backup")


@pytest.fixture(scope="session")
def plan(observations: Observations, target: Host) -> Callable[[str], list[dict[str, Any]]]:
    """Return the changes that apply would make to one engine on the host; empty means no drift."""
    return partial(observations.changes, target)


@pytest.fixture(scope="session")
def access(environment: Environment) -> Iterator[Access]:
    """Connections to the servers as the real roles, on the network path that the application takes."""
    with Access(environment) as opened:
        yield opened
