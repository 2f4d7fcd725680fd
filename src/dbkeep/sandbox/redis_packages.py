"""Redis and Valkey servers of a Debian release that this machine does not run: the very programs of its hosts.

They are for throw-away servers of this machine. apt fetches the packages and checks them against the archive's key;
they are unpacked, never installed, and run by the C library that came with them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dbkeep.errors import UsageError
from dbkeep.lab.paths import CACHE, locked

RELEASE = "trixie"
SERVERS = ("redis-tools", "redis-server", "valkey-tools", "valkey-server")
LIBRARIES = (
    *("libatomic1", "libc6", "libcap2", "libgcc-s1", "libjemalloc2", "liblzf1", "libssl3t64", "libstdc++6"),
    *("libsystemd0", "libzstd1", "zlib1g"),
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"


def commands() -> dict[str, list[str]]:
    """Return the command that runs each unpacked server, by its name; empty where none is unpacked."""
    place = _place()
    return {
        path.name.removesuffix("-server"): [str(loader), "--library-path", str(loader.parent), str(path)]
        for loader in place.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*")
        for path in sorted(place.glob("usr/bin/*-server"))
    }


def install() -> Path:
    """Fetch and unpack the packages if they are missing and return their folder. No script of a package is run.

    Raises UsageError when apt fails.
    """
    place = _place()
    with locked(place.with_suffix(".lock"), None):
        if not place.exists():
            # The server's own user reads it: root's umask must not hide it, nor may a half-made folder be found.
            partial = place.with_suffix(".part")
            shutil.rmtree(partial, ignore_errors=True)
            (partial / "apt").mkdir(mode=0o755, parents=True)
            environment = _apt(partial / "apt")
            _run(["apt-get", "-qq", "update"], partial / "apt", environment)
            _run(["apt-get", "-qq", "download", *SERVERS, *LIBRARIES], partial / "apt", environment)
            for package in sorted((partial / "apt").glob("*.deb")):
                _run(["dpkg-deb", "-x", str(package), str(partial)], partial, environment)
            shutil.rmtree(partial / "apt")
            partial.rename(place)
    return place


def _place() -> Path:
    """A checkout may lie where no other user can enter, so the packages lie where root keeps such things."""
    cache = CACHE if os.geteuid() == 0 else Path.home() / ".cache" / "dbkeep"
    return cache / f"redis-{RELEASE}"


def _apt(folder: Path) -> dict[str, str]:
    """Make an apt of its own in `folder`, which knows that release only, and return the environment that selects it."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {RELEASE} main\n", encoding="utf-8")
    settings = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::Status": folder / "status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    configuration = folder / "apt.conf"
    configuration.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()), encoding="utf-8")
    return {**os.environ, "APT_CONFIG": str(configuration)}


def _mirror() -> str:
    """Return the mirror that this machine's own apt uses for Debian, or the one that everybody reaches."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("debian.sources"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files if path.exists())
    found = re.search(r"^(?:URIs:|deb)\s+(?:\[[^\]]*\]\s+)?(\S+/debian)/?\s*", text, re.MULTILINE)
    return found[1] if found else MIRROR


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, umask=0o022,
    )  # fmt: skip
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["no reason given"]
        raise UsageError(f"`{' '.join(command[:3])}` failed for {RELEASE}: {lines[0]}; check the network")
