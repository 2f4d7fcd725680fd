#!/usr/bin/python
"""Makes a virtual environment from a bundle, beside the old one, and puts it in place in one step."""

from __future__ import annotations

import compileall
import shutil
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dbkeep_venv
short_description: Makes a virtual environment from a bundle of dbkeep
description:
  - Needs no network and no pip. The environment uses the Python this module runs with.
  - O(path) is a link that changes only when the new environment is whole, so an interrupted run leaves the old one.
  - Environments share one folder of dependencies; the last one to leave it removes it.
options:
  path: {description: Where programs find the environment., type: path, required: true}
  digest: {description: The bundle's digest., type: str, required: true}
  dependencies:
    description: Folder of the dependencies; made from the archive of the same name with C(.tar.gz) when it is missing.
    type: path
    required: true
  package: {description: The wheel of dbkeep., type: path, required: true}
"""

EXAMPLES = """
- name: Make the agent's environment
  dbkeep_venv:
    path: /opt/dbkeep/venv
    digest: "{{ bundle.digest }}"
    dependencies: /opt/dbkeep/dependencies-3.11-x86_64-0123456789abcdef
    package: /opt/dbkeep/dbkeep.whl
"""

RETURN = """
release: {description: The folder that O(path) points to., type: str, returned: success}
"""

SCRIPT = """#!{path}/bin/python
import sys

from dbkeep.cli import main

sys.exit(main())
"""


def unpack(dependencies: Path) -> None:
    archive, unfinished = Path(f"{dependencies}.tar.gz"), Path(f"{dependencies}.unfinished")
    if dependencies.exists():
        return
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as opened:
        # Debian 12's Python is older than the filter.
        opened.extraction_filter = getattr(tarfile, "data_filter", None)
        opened.extractall(unfinished)  # noqa: S202 - dbkeep's own file, copied by its checksum
    # Services that may not write here would otherwise compile everything at every start.
    compileall.compile_dir(unfinished, quiet=2, workers=0)
    (unfinished / "used-by").mkdir()
    unfinished.rename(dependencies)
    archive.unlink()


def make(release: Path, path: Path, dependencies: Path, package: Path) -> None:
    shutil.rmtree(release, ignore_errors=True)
    venv.EnvBuilder(symlinks=True, with_pip=False).create(release)
    packages = release / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    with zipfile.ZipFile(package) as wheel:
        wheel.extractall(packages)  # noqa: S202 - dbkeep's own file, copied by its checksum
    compileall.compile_dir(packages, quiet=2)
    (packages / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    script = release / "bin/dbkeep"
    script.write_text(SCRIPT.format(path=path), encoding="utf-8")
    script.chmod(0o755)


def put_in_place(release: Path, path: Path, dependencies: Path) -> None:
    mark = str(path).strip("/").replace("/", "-")
    (dependencies / "used-by" / mark).touch()
    link = path.with_name(f".{path.name}.new")
    link.unlink(missing_ok=True)
    link.symlink_to(release.name)
    link.replace(path)
    for other in path.parent.glob(f"{path.name}-*"):
        if other != release:
            shutil.rmtree(other)
    for other in dependencies.parent.glob("dependencies-*/used-by"):
        if other.parent != dependencies:
            (other / mark).unlink(missing_ok=True)
            if not any(other.iterdir()):
                shutil.rmtree(other.parent)


def main() -> None:
    words = {"digest": {"type": "str", "required": True}}
    paths = {name: {"type": "path", "required": True} for name in ("path", "dependencies", "package")}
    module = AnsibleModule(argument_spec={**paths, **words}, supports_check_mode=True)
    path, dependencies, package = (Path(module.params[name]) for name in paths)
    release = path.with_name(f"{path.name}-{module.params['digest']}")
    changed = not path.is_symlink() or path.resolve() != release or not release.exists()
    if path.exists() and not path.is_symlink():
        module.fail_json(msg=f"{path} is not a link that dbkeep made; move it away")
    if changed and not module.check_mode:
        try:
            unpack(dependencies)
            make(release, path, dependencies, package)
            put_in_place(release, path, dependencies)
        except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
            module.fail_json(msg=f"{path} cannot be made: {error}")
    module.exit_json(changed=changed, release=str(release))


if __name__ == "__main__":
    main()
