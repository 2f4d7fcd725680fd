"""The lab's package and its repository, read by the tools that apt uses."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from dbkeep.lab.mongodb_package import KEY, PACKAGE, build


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_repository_is_signed_and_holds_the_server(folder: Path) -> None:
    apt = folder / "apt"
    assert build(apt) == apt
    keyring = folder / "keyring.gpg"
    output("gpg", "--batch", "--yes", "--dearmor", "--output", str(keyring), str(apt / KEY))
    release = output("gpgv", "--keyring", str(keyring), "--output", "-", str(apt / "InRelease"))
    packages = (apt / "Packages").read_bytes()
    assert hashlib.sha256(packages).hexdigest() in release
    assert hashlib.sha256((apt / PACKAGE).read_bytes()).hexdigest() in packages.decode()

    names = output("dpkg-deb", "--contents", str(apt / PACKAGE))
    assert "-rwxr-xr-x root/root" in next(line for line in names.splitlines() if line.endswith("./usr/bin/mongod"))
    assert "./usr/lib/systemd/system/mongod.service" in names
    assert output("dpkg-deb", "--field", str(apt / PACKAGE), "Package") == "mongodb-org-server\n"

    private = folder / "apt-private"
    assert private.stat().st_mode & 0o777 == 0o700
    assert not list(apt.rglob("*.key"))

    before = {path: path.stat().st_mtime_ns for path in apt.iterdir()}
    build(apt)
    assert {path: path.stat().st_mtime_ns for path in apt.iterdir()} == before
