"""How long `plan` takes for both instances of Redis, against the bare client reading the same."""

from __future__ import annotations

import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import redis as driver

from dbkeep import redis
from dbkeep.environment import checkout
from dbkeep.redis.declared import ADMIN, Declared
from dbkeep.redis.statements import directives
from dbkeep.sandbox import redis as sandbox
from dbkeep.settings import RedisSettings

MEMORY_BYTES = 80 * 1024 * 1024
PROMISE_SECONDS = 0.3


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def read_by_client(settings: RedisSettings) -> None:
    """Read what a comparison cannot do without: settings, users, function libraries, modules and figures."""
    for instance in settings.instances.values():
        password = instance.password_file.read_text(encoding="utf-8").strip() if instance.password_file else None
        client = driver.Redis(
            unix_socket_path=str(instance.socket), username=ADMIN, password=password, decode_responses=True
        )
        with client, client.pipeline(transaction=False) as pipeline:
            for section in ("server", "memory", "clients", "keyspace"):
                pipeline.info(section)
            pipeline.acl_list()
            pipeline.config_get("*")
            pipeline.module_list()
            pipeline.execute_command("FUNCTION LIST", "WITHCODE")  # type: ignore[no-untyped-call]
            pipeline.execute()


def plan(settings: RedisSettings, declared: Declared, passwords: dict[str, str]) -> None:
    planned = redis.plan(settings, declared, passwords)
    if planned:
        raise click.ClickException(f"the plan is not empty after apply: {planned.changes[0].target}")


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Return the median seconds of each side; the rounds of both sides alternate."""
    declared = redis.read_declared(checkout())
    passwords = {user: secrets.token_urlsafe(32) for user in redis.users(declared)}
    version = sandbox.installed_version()
    instances = {name: directives(declared, name, version, {}, MEMORY_BYTES) for name in declared.instances.instances}
    found: dict[str, list[float]] = {"plan": [], "read": []}
    with sandbox.start(folder, instances, memory_bytes=MEMORY_BYTES) as settings:
        redis.apply(settings, declared, passwords)
        for _ in range(rounds):
            found["plan"].append(seconds(lambda: plan(settings, declared, passwords)))
            found["read"].append(seconds(lambda: read_by_client(settings)))
    return {name: statistics.median(times) for name, times in found.items()}


@click.command()
@click.option("--rounds", default=30, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(rounds: int, as_json: bool) -> None:
    """Measure the plan of both instances, which are converged."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        Path(name).chmod(0o711)
        result = measure(Path(name), rounds)
    ratio = result["plan"] / result["read"]
    if as_json:
        click.echo(json.dumps({"seconds": result, "plan_to_read": ratio, "promise": PROMISE_SECONDS}, indent=2))
        return
    click.echo(f"two instances, median of {rounds} rounds")
    click.echo(f"plan   {result['plan']:.3f} s = {ratio:.2f} x reading the same by the client")


if __name__ == "__main__":
    main()
