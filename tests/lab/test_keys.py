"""Keys on a real host: a killed rotation is finished, an old key leaves the host, no address stands in a file."""

from __future__ import annotations

import secrets
import subprocess

from dbkeep.keys import read_rings
from dbkeep.remote import ssh_command
from dbkeep.sample import open_api

from ..canary import spellings
from .conftest import UpLab, dbkeep, kill_at

PLACES = ("/var/lib/postgresql", "/var/lib/mongodb", "/var/lib/redis", "/var/log", "/var/lib/dbkeep", "/run/log")


def register(lab: UpLab, address: str) -> str:
    """Register a user with the address and return the password."""
    password = secrets.token_urlsafe(24)
    body = {"username": f"k{secrets.token_hex(6)}", "email": address, "password": password}
    with open_api(lab.environment) as api:
        answer = api.post("/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    return password


def log_in(lab: UpLab, address: str, password: str) -> int:
    with open_api(lab.environment) as api:
        return api.post("/auth/login", json={"login": address, "password": password}).status_code


def versions(lab: UpLab) -> dict[int, tuple[str, int]]:
    """Return the state and the number of values of each field key."""
    found = dbkeep("keys", "status", "-e", lab.name, "--json").json["versions"]
    return {row["version"]: (row["state"], row["values"]) for row in found if row["kind"] == "field"}


def test_a_killed_rotation_is_finished_by_the_next(lab: UpLab) -> None:
    address = f"{secrets.token_hex(8)}@example.org"
    password = register(lab, address)
    before = max(version for version, (state, _) in versions(lab).items() if state == "newest")
    kill_at("write with the new key", "keys", "rotate", "-e", lab.name)
    assert log_in(lab, address, password) == 200
    done = dbkeep("keys", "rotate", "-e", lab.name, "--json")
    assert done.status == 0, done.err
    after = versions(lab)
    newest = done.json["newest"]["field"]
    assert (newest, done.json["resumed"]) == (before + 1, True)
    assert {state for version, (state, values) in after.items() if values} == {"newest"}
    assert log_in(lab, address, password) == 200
    assert dbkeep("keys", "status", "-e", lab.name).status == 0


def test_a_retired_key_leaves_the_host_and_stays_in_the_vault(lab: UpLab) -> None:
    newest = next(version for version, (state, _) in versions(lab).items() if state == "newest")
    assert dbkeep("keys", "retire", "-e", lab.name, str(newest)).status == 2
    done = dbkeep("keys", "retire", "-e", lab.name, "1", "--json")
    assert done.status == 0, done.err
    assert done.json["backup_sets"]
    lines = lab.run("sudo cut -d: -f1 /etc/chat_api/credentials/field_key").split()
    assert str(newest) in lines
    assert "1" not in lines
    assert 1 in read_rings(lab.environment).retired["field_key"].keys
    assert dbkeep("drift", "postgresql", "-e", lab.name).status == 0


def found_in(lab: UpLab, text: str) -> str:
    """Return the files on the host that hold any spelling of `text`."""
    command = [*ssh_command(lab.host), "sudo env LC_ALL=C grep -rlaF --file=- --", *PLACES]
    # Its status also tells of files that a server removed meanwhile.
    patterns = b"\n".join(spellings(text)) + b"\n"
    return subprocess.run(command, input=patterns, capture_output=True, check=False).stdout.decode()


def test_an_address_is_in_no_file_of_the_host(lab: UpLab) -> None:
    needle = f"Canary.{secrets.token_hex(10)}"
    register(lab, f"{needle}@leak.example")
    assert log_in(lab, f"{needle}@leak.example", "not the password") == 401
    # The same search finds what is written in clear.
    control = f"control-{secrets.token_hex(10)}"
    lab.run(f"sudo -u postgres psql -qc \"COMMENT ON DATABASE chat IS '{control}'\"")
    lab.run("sudo -u postgres psql -qc CHECKPOINT")
    assert dbkeep("backup", "run", "-e", lab.name).status == 0
    lab.run("sudo -u postgres psql -qc 'COMMENT ON DATABASE chat IS NULL'")
    assert found_in(lab, needle) == ""
    found = found_in(lab, control)
    assert "/var/lib/postgresql/" in found
    assert "/var/log/" in found
