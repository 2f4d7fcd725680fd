"""What a call of the rate limiter costs, against a plain SET on the same connection.

`.venv/bin/python bench/rate_limit.py` makes the same number of calls of each kind in turns, through redis-py over TLS
as svc_api, on one server in one run. It prints the median of a call, calls a second and the server's own share of a
call. The empty function shows what FCALL costs by itself.
"""

from __future__ import annotations

import argparse
import json
import pwd
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from dbkeep import redis as engine
from dbkeep import tls
from dbkeep.redis.connect import connect
from dbkeep.redis.declared import Declared
from dbkeep.redis.statements import directives
from dbkeep.sandbox import redis as sandbox
from dbkeep.secrets import new_password

ROOT = Path(__file__).parents[1]
TARGET = 1.2
MEMORY_BYTES = 1024**3
BASELINE = "SET"
LIMITER = "rate_limit, allowed"
USER = "svc_api"
EMPTY = "#!lua name=empty\nredis.register_function('empty', function() return {1, 0, 0, 0} end)"

Calls = dict[str, Callable[[int], object]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=100, help="how often the kinds take turns")
    parser.add_argument("--calls", type=int, default=100, help="calls of one kind in a round")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    with _server() as (client, administrator):
        found = _measure(client, administrator, arguments.rounds, arguments.calls)
    ratio = {what: found[LIMITER][what] / found[BASELINE][what] for what in ("microseconds", "in_the_server")}
    if arguments.json:
        print(json.dumps({**vars(arguments), "calls_of": found, "ratio": ratio}, indent=2))
        return 0
    for name, numbers in found.items():
        print(f"{name:20} {numbers['microseconds']:7.1f} us  {numbers['per_second']:7.0f}/s"
              f"  {numbers['in_the_server']:5.2f} us in the server")  # fmt: skip
    print(f"{LIMITER} = {ratio['microseconds']:.3f} x {BASELINE} (target {TARGET})")
    return 0


@contextmanager
def _server() -> Iterator[tuple[redis.Redis, redis.Redis]]:
    """Yield a client as svc_api over TLS and the administrator's, of a throw-away state instance as declared."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        listener = _certificates(folder)
        declared = _only_state(engine.read_declared(ROOT))
        passwords = {user: new_password() for user in engine.users(declared)}
        started_as = directives(declared, "state", sandbox.installed_version(), {}, MEMORY_BYTES)
        with sandbox.start(
            folder / "redis", {"state": started_as}, tls={"state": listener}, memory_bytes=MEMORY_BYTES
        ) as settings:
            engine.apply(settings, declared, passwords)
            with (
                connect("state", settings.instances["state"]) as administrator,
                redis.Redis(
                    host="127.0.0.1", port=listener.port, username=USER, password=passwords[USER], protocol=2,
                    ssl=True, ssl_ca_certs=str(listener.ca), single_connection_client=True,
                ) as client,
            ):  # fmt: skip
                administrator.function_load(EMPTY)
                rights = "(~rl:api:* +fcall|empty)"
                administrator.execute_command("ACL", "SETUSER", USER, rights)  # type: ignore[no-untyped-call]
                yield client, administrator


def _only_state(declared: Declared) -> Declared:
    own = {"state": declared.instances.instances["state"]}
    return declared.model_copy(update={"instances": declared.instances.model_copy(update={"instances": own})})


def _certificates(folder: Path) -> sandbox.TLS:
    authority_key, key = tls.new_private_key(), tls.new_private_key()
    authority = tls.new_authority(authority_key, "bench")
    subject = tls.Subject("redis", names=("127.0.0.1",))
    signed = tls.sign(tls.new_request(key, "redis"), subject, private_key=authority_key, authority=authority)
    for name, text in {"ca.crt": authority, "redis.crt": signed, "redis.key": key}.items():
        (folder / name).write_text(text, encoding="ascii")
        with suppress(KeyError, PermissionError):
            shutil.chown(folder / name, pwd.getpwnam("redis").pw_name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    return sandbox.TLS(port, folder / "redis.crt", folder / "redis.key", folder / "ca.crt")


def _kinds(client: redis.Redis) -> Calls:
    """Each kind has one of a hundred keys of its own, as long as those of the API, and numbers that allow all."""
    value, refused = "1795543133337805", ("1", "1", "86400")
    numbers = ("86400", "1", "1")
    client.fcall("rate_limit", 1, _key("refused", 0), *refused)
    return {
        BASELINE: lambda number: client.set(_key("plain", number), value),
        "SET with PX": lambda number: client.set(_key("brief", number), value, px=60000),
        "empty function": lambda number: client.fcall("empty", 1, _key("empty", number), *numbers),
        LIMITER: lambda number: client.fcall("rate_limit", 1, _key("limit", number), *numbers),
        "rate_limit, refused": lambda _: client.fcall("rate_limit", 1, _key("refused", 0), *refused),
    }


def _key(kind: str, number: int) -> str:
    return f"rl:api:{kind}-user:{number % 100:036}"


def _measure(client: redis.Redis, administrator: redis.Redis, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    kinds = _kinds(client)
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    server: dict[str, list[float]] = {name: [] for name in kinds}
    order = list(kinds)
    for turn in range(rounds + 1):
        for name in order:
            administrator.config_resetstat()
            took = [_seconds(kinds[name], number) for number in range(calls)]
            if turn:  # the first turn warms up
                seconds[name] += took
                server[name].append(_in_the_server(administrator))
        order.reverse()
    return {
        name: {
            "microseconds": statistics.median(seconds[name]) * 1e6,
            "per_second": len(seconds[name]) / sum(seconds[name]),
            "in_the_server": statistics.median(server[name]),
        }
        for name in kinds
    }


def _seconds(call: Callable[[int], object], number: int) -> float:
    started = time.perf_counter()
    call(number)
    return time.perf_counter() - started


def _in_the_server(administrator: redis.Redis) -> float:
    """Return the microseconds that the server spent on one call since its counters were reset."""
    statistics_of: dict[str, Any] = administrator.info("commandstats")
    command = "cmdstat_fcall" if "cmdstat_fcall" in statistics_of else "cmdstat_set"
    return float(statistics_of[command]["usec_per_call"])


if __name__ == "__main__":
    raise SystemExit(main())
