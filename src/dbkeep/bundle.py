"""The bundle: this package as a wheel, and everything it needs in one archive for the Python of a host.

It is made on the controller from the hashes in uv.lock, so a host needs no package registry, no pip and no compiler.
The two parts have digests of their own: a change of this package does not send its dependencies again.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbkeep.environment import checkout
from dbkeep.errors import UsageError

# Part of every digest: raise it when the content of a bundle changes without a change of its sources.
_FORMAT = 2
_PACKAGES = ("src/dbkeep", "src/chat_api")
# glibc 2.28 and newer: Debian 12 and 13, Ubuntu 22.04 and 24.04.
_PLATFORM = "{architecture}-manylinux_2_28"
_PYTHONS = ("3.11", "3.12", "3.13")
_ARCHITECTURES = ("x86_64", "aarch64")
# What uv notes about where a package came from: different on every controller, used by nobody on a host.
_LEFT_OUT = {"direct_url.json", "uv_cache.json", "uv_build.json", ".lock"}


@dataclass(frozen=True, slots=True)
class Bundle:
    """The two files on the controller; their names end in their digests."""

    dependencies: Path
    package: Path

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change whenever the content of the bundle does."""
        return _digest([self.dependencies.name.encode(), self.package.name.encode()])


def cache_directory() -> Path:
    """Return where bundles are kept on this controller."""
    if os.geteuid() == 0:
        return Path("/var/cache/dbkeep/bundles")
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "dbkeep/bundles"


def build_bundle(
    python_version: str,
    *,
    architecture: str = "x86_64",
    extras: Sequence[str] = ("api",),
    root: Path | None = None,
    into: Path | None = None,
) -> Bundle:
    """Return the bundle of the checkout for hosts with `python_version` ("3.11"); parts that exist are not made again.

    Raises UsageError when no bundle can be made for such a host, or uv fails.
    """
    if python_version not in _PYTHONS or architecture not in _ARCHITECTURES:
        raise UsageError(
            f"no bundle for Python {python_version} on {architecture}: "
            f"hosts need Python {', '.join(_PYTHONS)} on {' or '.join(_ARCHITECTURES)}"
        )
    root, into = root or checkout(), into or cache_directory()
    host = f"{python_version}-{architecture}"
    locked = _digest([repr((_FORMAT, host, tuple(extras))).encode(), (root / "uv.lock").read_bytes()])
    sources = _digest(_source_contents(root))
    bundle = Bundle(into / f"dependencies-{host}-{locked}.tar.gz", into / f"dbkeep-{sources}.whl")

    def make_dependencies(work: Path) -> Path:
        return _make_dependencies(root, work, python_version, architecture, extras)

    _make(bundle.dependencies, make_dependencies, f"dependencies-{host}-*.tar.gz")
    _make(bundle.package, lambda work: _make_package(root, work), "dbkeep-*.whl")
    return bundle


def _digest(contents: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for content in contents:
        whole.update(len(content).to_bytes(8) + content)
    return whole.hexdigest()[:16]


def _source_contents(root: Path) -> Iterable[bytes]:
    found = (path for package in _PACKAGES for path in (root / package).rglob("*"))
    files = sorted(path for path in found if "__pycache__" not in path.parts and path.is_file())
    for path in (root / "pyproject.toml", *files):
        yield str(path.relative_to(root)).encode()
        yield path.read_bytes()


def _make(path: Path, make: Callable[[Path], Path], others: str) -> None:
    """Make the file `path` unless it exists: whole, once, whoever else asks for it at the same time."""
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file():
            return
        for unfinished in path.parent.glob("unfinished-*"):
            shutil.rmtree(unfinished)
        with tempfile.TemporaryDirectory(prefix="unfinished-", dir=path.parent) as work:
            make(Path(work)).replace(path)
        # Two older ones stay: going back and forth between two states should not build each time.
        for old in sorted(path.parent.glob(others), key=lambda other: other.stat().st_mtime)[:-3]:
            old.unlink()


def _make_dependencies(root: Path, work: Path, python_version: str, architecture: str, extras: Sequence[str]) -> Path:
    requirements, tree, archive = work / "requirements.txt", work / "tree", work / "dependencies.tar.gz"
    chosen = [word for extra in extras for word in ("--extra", extra)]
    _uv(root, "export", "--frozen", "--no-dev", *chosen, "--no-emit-project", "--output-file", str(requirements))
    host = ["--python-version", python_version, "--python-platform", _PLATFORM.format(architecture=architecture)]
    exact = ["--only-binary", ":all:", "--no-deps", "--require-hashes"]
    _uv(root, "pip", "install", "--target", str(tree), *host, *exact, "--requirement", str(requirements))
    # Its scripts start with the controller's interpreter.
    shutil.rmtree(tree / "bin")
    _pack(tree, archive)
    return archive


def _make_package(root: Path, work: Path) -> Path:
    _uv(root, "build", "--wheel", "--out-dir", str(work))
    return next(work.glob("*.whl"))


def _uv(root: Path, *words: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.is_file() else shutil.which("uv")
    if program is None:
        raise UsageError("uv is not installed here; run ./dbkeep once, it installs what the controller needs")
    done = subprocess.run(
        [program, "--quiet", "--project", str(root), *words],
        cwd=root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = " ".join(done.stderr.split()) or "no reason given"
        raise UsageError(f"uv {' '.join(words[:2])} failed, so the agent's bundle cannot be made: {reason}")


def _pack(tree: Path, path: Path) -> None:
    # Same tree, same bytes: an archive made on another controller must not look new to the hosts that have it.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in sorted(tree.rglob("*")):
            if file.name not in _LEFT_OUT and "__pycache__" not in file.parts:
                archive.add(file, arcname=str(file.relative_to(tree)), recursive=False, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member
