"""Where the vendor's apt repository is out of reach: its package from the wheel's mongod, in a repository of our own.

The role installs it the way it installs the vendor's: a signed repository, the package mongodb-org-server.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from dbkeep.errors import DbkeepError
from dbkeep.lab.paths import locked
from dbkeep.sandbox.mongodb import wheel_mongod

VERSION = "6.0.5"
PACKAGE = f"mongodb-org-server_{VERSION}_amd64.deb"
KEY = "mongodb-server.asc"

CONTROL = f"""\
Package: mongodb-org-server
Version: {VERSION}
Architecture: amd64
Maintainer: dbkeep lab <root@localhost>
Section: database
Priority: optional
Depends: libc6, libcurl4 | libcurl4t64, libgcc-s1, liblzma5, libssl3 | libssl3t64, passwd
Description: MongoDB database server, repackaged for test hosts
"""

CONFIGURATION = """\
storage:
  dbPath: /var/lib/mongodb
systemLog:
  destination: file
  logAppend: true
  path: /var/log/mongodb/mongod.log
net:
  port: 27017
  bindIp: 127.0.0.1
"""

UNIT = """\
[Unit]
Description=MongoDB Database Server
Documentation=https://docs.mongodb.org/manual
After=network-online.target
Wants=network-online.target

[Service]
User=mongodb
Group=mongodb
EnvironmentFile=-/etc/default/mongod
Environment="MONGODB_CONFIG_OVERRIDE_NOFORK=1"
ExecStart=/usr/bin/mongod --config /etc/mongod.conf
RuntimeDirectory=mongodb
LimitFSIZE=infinity
LimitCPU=infinity
LimitAS=infinity
LimitNOFILE=64000
LimitNPROC=64000
LimitMEMLOCK=infinity
TasksMax=infinity
TasksAccounting=false

[Install]
WantedBy=multi-user.target
"""

AFTER_INSTALLATION = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if ! getent passwd mongodb >/dev/null; then
        useradd --system --user-group --home-dir /var/lib/mongodb --shell /usr/sbin/nologin mongodb
    fi
    chown mongodb:mongodb /var/lib/mongodb /var/log/mongodb
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
    fi
fi
"""


def build(apt_directory: Path) -> Path:
    """Return `apt_directory` holding a signed flat apt repository with mongodb-org-server; made on the first call.

    Test hosts see it at /srv/dbkeep-apt: `deb [signed-by=KEYRING] file:/srv/dbkeep-apt ./`, public key
    mongodb-server.asc. The signing key stays beside it in `apt_directory`-private, which no host sees.

    Raises UsageError when the wheel is not installed, DbkeepError when a packaging tool fails.
    """
    private = apt_directory.with_name(f"{apt_directory.name}-private")
    with locked(apt_directory.with_name(f"{apt_directory.name}.lock"), busy=None):
        if not (apt_directory / "InRelease").exists() or not (apt_directory / PACKAGE).exists():
            apt_directory.mkdir(parents=True, exist_ok=True)
            apt_directory.chmod(0o755)
            private.mkdir(mode=0o700, exist_ok=True)
            _build_package(wheel_mongod(), apt_directory / PACKAGE)
            _write_index(apt_directory, private)
    return apt_directory


def _build_package(mongod: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent.parent) as temporary:
        root = Path(temporary) / "root"
        _file(root / "DEBIAN/control", CONTROL)
        _file(root / "DEBIAN/conffiles", "/etc/mongod.conf\n")
        _file(root / "DEBIAN/postinst", AFTER_INSTALLATION, mode=0o755)
        _file(root / "etc/mongod.conf", CONFIGURATION)
        _file(root / "usr/lib/systemd/system/mongod.service", UNIT)
        for directory in ("var/lib/mongodb", "var/log/mongodb", "usr/bin"):
            (root / directory).mkdir(parents=True)
            (root / directory).chmod(0o755)
        shutil.copyfile(mongod, root / "usr/bin/mongod")
        (root / "usr/bin/mongod").chmod(0o755)
        unfinished = Path(temporary) / PACKAGE
        _run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(unfinished)])
        unfinished.chmod(0o644)
        unfinished.rename(target)


def _file(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _write_index(directory: Path, private: Path) -> None:
    packages = _run(["dpkg-scanpackages", "--multiversion", "."], directory)
    _file(directory / "Packages", packages)
    release = (
        "Origin: dbkeep lab\nLabel: dbkeep lab\nSuite: lab\nCodename: lab\nArchitectures: amd64\n"
        f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}\n"
        f"SHA256:\n {hashlib.sha256(packages.encode()).hexdigest()} {len(packages.encode())} Packages\n"
    )
    gpg = ["gpg", "--batch", "--no-tty", "--quiet", "--homedir", str(private)]
    try:
        if not _run([*gpg, "--list-secret-keys", "--with-colons"]):
            _run([*gpg, "--passphrase", "", "--quick-generate-key", "dbkeep lab", "ed25519", "sign", "never"])
        _file(directory / KEY, _run([*gpg, "--armor", "--export"]))
        _file(directory / "InRelease.unfinished", _run([*gpg, "--clearsign"], text=release))
    finally:
        _run(["gpgconf", "--homedir", str(private), "--kill", "gpg-agent"])
    (directory / "InRelease.unfinished").rename(directory / "InRelease")


def _run(command: Sequence[str], directory: Path | None = None, *, text: str = "") -> str:
    try:
        done = subprocess.run(command, cwd=directory, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DbkeepError(f"{command[0]} is not installed; run: apt-get install dpkg-dev gnupg") from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DbkeepError(f"the lab's MongoDB package: {command[0]} failed: {reason}")
    return done.stdout
