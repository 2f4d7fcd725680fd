"""The bundle: made once, whole, for the Python of the host, and new whenever its content is."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from dbkeep.bundle import build_bundle
from dbkeep.environment import checkout
from dbkeep.errors import UsageError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of its own, so that its sources can change."""
    for name in ("pyproject.toml", "uv.lock", "README.md", "LICENSE"):
        shutil.copy(checkout() / name, tmp_path)
    shutil.copytree(checkout() / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize(("python", "architecture"), [("3.10", "x86_64"), ("3.13", "riscv64"), ("", "x86_64")])
def test_a_host_no_bundle_fits_is_named(python: str, architecture: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no bundle for Python {python} on {architecture}: hosts need Python 3.11"):
        build_bundle(python, architecture=architecture, into=tmp_path)


def test_it_holds_the_package_and_compiled_dependencies_of_the_hosts_python(root: Path, tmp_path: Path) -> None:
    bundle = build_bundle("3.13", root=root, into=tmp_path / "cache")
    with zipfile.ZipFile(bundle.package) as wheel:
        assert {"dbkeep/cli.py", "chat_api/__init__.py"} <= set(wheel.namelist())
    with tarfile.open(bundle.dependencies) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert "psycopg_binary/_psycopg.cpython-313-x86_64-linux-gnu.so" in names
    assert not [name for name in names if "cpython-311" in name or name.startswith(("ansible/", "bin/", "dbkeep/"))]
    assert {(member.uid, member.mtime) for member in members} == {(0, 0)}


def test_what_exists_is_not_made_again_and_a_changed_source_makes_only_the_package_new(
    root: Path, tmp_path: Path
) -> None:
    first = build_bundle("3.11", root=root, into=tmp_path / "cache")
    start = time.monotonic()
    assert build_bundle("3.11", root=root, into=tmp_path / "cache") == first
    assert time.monotonic() - start < 1
    with (root / "src/dbkeep/cli.py").open("a") as file:
        file.write("# changed\n")
    second = build_bundle("3.11", root=root, into=tmp_path / "cache")
    assert second.dependencies == first.dependencies
    assert second.package != first.package
    assert second.digest != first.digest


def test_a_build_that_is_killed_leaves_nothing_that_looks_like_a_bundle(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    code = (
        "import sys; from pathlib import Path; from dbkeep.bundle import build_bundle;"
        "build_bundle('3.11', root=Path(sys.argv[1]), into=Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(root), str(cache)])
    while not list(cache.glob("unfinished-*/tree")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(cache.glob("dependencies-*")) == []
    bundle = build_bundle("3.11", root=root, into=cache)
    with tarfile.open(bundle.dependencies) as archive:
        assert "click/__init__.py" in archive.getnames()
    assert list(cache.glob("unfinished-*")) == []


def test_a_failure_of_uv_is_one_line(root: Path, tmp_path: Path) -> None:
    (root / "uv.lock").write_text("not a lock file")
    with pytest.raises(UsageError, match=r"^uv export --frozen failed, so the agent's bundle cannot be made: .*TOML"):
        build_bundle("3.11", root=root, into=tmp_path / "cache")
