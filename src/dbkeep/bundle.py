"""The bundle: one file with this package and everything it needs, for the Python of a host.

It is made on the controller from the hashes in uv.lock, so a host needs no package registry, no pip and no compiler.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbkeep.environment import checkout
from dbkeep.errors import UsageError

# Part of the digest: raise it when the content of a bundle changes without a change of its sources.
_FORMAT = 1
_PACKAGES = ("src/dbkeep", "src/chat_api")
# glibc 2.28 and newer: Debian 12 and 13, Ubuntu 22.04 and 24.04.
_PLATFORM = "{architecture}-manylinux_2_28"
_PYTHONS = ("3.11", "3.12", "3.13")
_ARCHITECTURES = ("x86_64", "aarch64")
# What uv notes about where a package came from: different on every controller, used by nobody on a host.
_LEFT_OUT = {"direct_url.json", "uv_cache.json", "uv_build.json", ".lock"}


@dataclass(frozen=True, slots=True)
class Bundle:
    path: Path
    digest: str


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
    """Return the bundle of the checkout for hosts with `python_version` ("3.11"), made if it does not exist.

    Its digest stands for everything in it. Raises UsageError when no bundle can be made for such a host, or uv fails.
    """
    if python_version not in _PYTHONS or architecture not in _ARCHITECTURES:
        raise UsageError(
            f"no bundle for Python {python_version} on {architecture}: "
            f"hosts need Python {', '.join(_PYTHONS)} on {' or '.join(_ARCHITECTURES)}"
        )
    root, into = root or checkout(), into or cache_directory()
    digest = source_digest(root, python_version, architecture, extras)
    bundle = Bundle(into / f"dbkeep-{python_version}-{architecture}-{digest}.tar.gz", digest)
    if bundle.path.is_file():
        return bundle
    into.mkdir(parents=True, exist_ok=True)
    with _alone(into / "lock"):
        if not bundle.path.is_file():
            _build(root, python_version, architecture, extras, bundle.path)
            _forget_others(bundle.path, f"dbkeep-{python_version}-{architecture}-*")
    return bundle


def source_digest(root: Path, python_version: str, architecture: str, extras: Sequence[str]) -> str:
    """Return 16 hexadecimal digits that change whenever the content of the bundle would."""
    whole = hashlib.sha256(repr((_FORMAT, python_version, architecture, tuple(extras))).encode())
    for path in [root / "uv.lock", root / "pyproject.toml", *_sources(root)]:
        content = path.read_bytes()
        whole.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()[:16]


def _sources(root: Path) -> list[Path]:
    found = [path for package in _PACKAGES for path in (root / package).rglob("*")]
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _build(root: Path, python_version: str, architecture: str, extras: Sequence[str], path: Path) -> None:
    # Unfinished work stays in this folder; only a rename brings a whole file to `path`.
    with tempfile.TemporaryDirectory(prefix="unfinished-", dir=path.parent) as name:
        work = Path(name)
        requirements, tree = work / "requirements.txt", work / "tree"
        chosen = [word for extra in extras for word in ("--extra", extra)]
        _uv(root, "export", "--frozen", "--no-dev", *chosen, "--no-emit-project", "--output-file", str(requirements))
        _uv(root, "build", "--wheel", "--out-dir", str(work))
        target = ["--python-version", python_version, "--python-platform", _PLATFORM.format(architecture=architecture)]
        install = ["pip", "install", "--target", str(tree), *target, "--only-binary", ":all:", "--no-deps"]
        _uv(root, *install, "--require-hashes", "--requirement", str(requirements))
        _uv(root, *install, *(str(wheel) for wheel in work.glob("*.whl")))
        # Its scripts start with the controller's interpreter.
        shutil.rmtree(tree / "bin")
        _pack(tree, work / "bundle")
        (work / "bundle").replace(path)


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
    # Same tree, same bytes: a rebuilt bundle must not look new to the hosts that have it.
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


def _forget_others(path: Path, pattern: str) -> None:
    others = sorted((p for p in path.parent.glob(pattern) if p != path), key=lambda p: p.stat().st_mtime)
    # Two older ones stay: switching branches back and forth should not build each time.
    for old in others[:-2]:
        old.unlink()
    for unfinished in path.parent.glob("unfinished-*"):
        shutil.rmtree(unfinished)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
