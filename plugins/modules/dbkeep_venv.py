#!/usr/bin/python
"""Makes a virtual environment from a bundle, beside the old one, and puts it in place in one step."""

from __future__ import annotations

import compileall
import shutil
import sys
import tarfile
import venv
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dbkeep_venv
short_description: Makes a virtual environment from a bundle of dbkeep
description:
  - Needs no network and no pip. The environment uses the Python this module runs with.
  - O(path) is a link that changes only when the new environment is whole, so an interrupted run leaves the old one.
options:
  path:
    description: Where programs find the environment.
    type: path
    required: true
  bundle:
    description: The bundle on this host.
    type: path
    required: true
  digest:
    description: The bundle's digest; the environment is made again when it changes.
    type: str
    required: true
"""

EXAMPLES = """
- name: Make the agent's environment
  dbkeep_venv:
    path: /opt/dbkeep/venv
    bundle: /opt/dbkeep/bundle.tar.gz
    digest: "{{ agent_bundle.digest }}"
"""

RETURN = """
release:
  description: The folder that O(path) points to.
  type: str
  returned: success
"""

SCRIPT = """#!{path}/bin/python
import sys

from dbkeep.cli import main

sys.exit(main())
"""


def make(release: Path, path: Path, bundle: Path) -> None:
    if release.exists():
        shutil.rmtree(release)
    venv.EnvBuilder(symlinks=True, with_pip=False).create(release)
    packages = release / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    with tarfile.open(bundle) as archive:
        # Debian 12's Python is older than the filter.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(packages)  # noqa: S202 - dbkeep's own file, copied by its checksum
    # Services that may not write here would otherwise compile everything at every start.
    compileall.compile_dir(packages, quiet=2, workers=0)
    script = release / "bin/dbkeep"
    script.write_text(SCRIPT.format(path=path), encoding="utf-8")
    script.chmod(0o755)


def put_in_place(release: Path, path: Path) -> None:
    link = path.with_name(f".{path.name}.new")
    link.unlink(missing_ok=True)
    link.symlink_to(release.name)
    link.replace(path)
    for other in path.parent.glob(f"{path.name}-*"):
        if other != release:
            shutil.rmtree(other)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "bundle": {"type": "path", "required": True},
            "digest": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    path, bundle = Path(module.params["path"]), Path(module.params["bundle"])
    release = path.with_name(f"{path.name}-{module.params['digest']}")
    changed = path.resolve() != release.resolve() or not (release / "bin/dbkeep").exists()
    if changed and path.exists() and not path.is_symlink():
        module.fail_json(msg=f"{path} is not a link that dbkeep made; move it away")
    if changed and not module.check_mode:
        try:
            make(release, path, bundle)
            put_in_place(release, path)
        except (OSError, tarfile.TarError) as error:
            module.fail_json(msg=f"{path} cannot be made from {bundle}: {error}")
    module.exit_json(changed=changed, release=str(release))


if __name__ == "__main__":
    main()
