"""What TLS and ACL users cost: redis-benchmark against one server, as the API does it and as anybody in plaintext."""

from __future__ import annotations

import csv
import json
import os
import secrets
import statistics
import subprocess
import tempfile
from pathlib import Path

import click

from dbkeep import redis, tls
from dbkeep.environment import checkout
from dbkeep.ports import free_port
from dbkeep.redis.connect import connect
from dbkeep.redis.statements import directives
from dbkeep.sandbox import redis as sandbox

MEMORY_BYTES = 2048 * 1024 * 1024
USER = "svc_auth"
# Both with the key and the time to live of a session.
COMMANDS = {"SET": ("SET", "sess:__rand_int__", "x" * 100, "EX", "600"), "GET": ("GET", "sess:__rand_int__")}
SIDES = ("plaintext, default user", "plaintext, ACL user", "TLS, default user", "TLS, ACL user")
BASELINE, PROMISED = SIDES[0], SIDES[3]


def issue(folder: Path) -> None:
    """Make an authority and a certificate for localhost in `folder`."""
    authority, key = tls.new_private_key(), tls.new_private_key()
    certificate = tls.new_authority(authority, "bench")
    subject = tls.Subject("localhost", ("localhost", "127.0.0.1"))
    signed = tls.sign(tls.new_request(key, "localhost"), subject, private_key=authority, authority=certificate)
    for name, text in {"ca.crt": certificate, "redis.crt": signed, "redis.key": key}.items():
        (folder / name).write_text(text, encoding="ascii")
        (folder / name).chmod(0o600)


def requests_per_second(side: str, command: tuple[str, ...], where: dict[str, str], number: int) -> float:
    """Run redis-benchmark once and return its requests a second."""
    transport, user = side.split(", ")
    words = ["-h", "127.0.0.1", "-n", str(number), "-c", "16", "-r", "10000", "--csv"]
    words += ["-p", where["tls" if transport == "TLS" else "plaintext"]]
    words += ["--tls", "--cacert", where["ca"]] if transport == "TLS" else []
    # The password of a server that lives as long as this run.
    words += ["--user", USER, "-a", where["password"]] if user == "ACL user" else []
    done = subprocess.run(
        ["redis-benchmark", *words, *command],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    *_, last = csv.DictReader(line for line in done.stdout.splitlines() if line.startswith('"'))
    return float(last["rps"])


def measure(folder: Path, number: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return the median requests a second of each side by command; the rounds of all sides alternate."""
    issue(folder)
    declared = redis.read_declared(checkout())
    passwords = {user: secrets.token_urlsafe(32) for user in redis.users(declared)}
    version = sandbox.installed_version()
    own = {name: directives(declared, name, version, {}, MEMORY_BYTES) for name in declared.instances.instances}
    listener = sandbox.TLS(free_port(), folder / "redis.crt", folder / "redis.key", folder / "ca.crt")
    found: dict[str, dict[str, list[float]]] = {command: {side: [] for side in SIDES} for command in COMMANDS}
    with sandbox.start(folder, own, tls={"state": listener}, memory_bytes=MEMORY_BYTES) as settings:
        redis.apply(settings, declared, passwords)
        where = {
            "tls": str(listener.port),
            "plaintext": str(free_port()),
            "ca": str(folder / "ca.crt"),
            "password": passwords[USER],
        }
        with connect("state", settings.instances["state"], passwords["admin"]) as admin:
            admin.config_set("port", where["plaintext"])
            admin.execute_command("ACL", "SETUSER", "default", "on", "nopass", "~*", "+@all")  # type: ignore[no-untyped-call]
            for _ in range(rounds):
                for name, command in COMMANDS.items():
                    for side in SIDES:
                        found[name][side].append(requests_per_second(side, command, where, number))
    return {name: {side: statistics.median(all_) for side, all_ in sides.items()} for name, sides in found.items()}


@click.command()
@click.option("--number", default=20000, show_default=True, help="Requests of one run.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(number: int, rounds: int, as_json: bool) -> None:
    """Measure what the state instance serves to 16 connections, one request at a time on each."""
    with tempfile.TemporaryDirectory(prefix="dbkeep-bench-") as name:
        Path(name).chmod(0o711)
        found = measure(Path(name), number, rounds)
    ratios = {
        command: {side: rate / sides[BASELINE] for side, rate in sides.items()} for command, sides in found.items()
    }
    if as_json:
        click.echo(json.dumps({"requests_per_second": found, "to_plaintext": ratios}, indent=2))
        return
    click.echo(f"16 connections, {number} requests, median of {rounds} rounds")
    for command, sides in ratios.items():
        for side in SIDES[1:]:
            click.echo(f"{command}  {side:<20} {sides[side]:.2f} x {BASELINE}")


if __name__ == "__main__":
    main()
