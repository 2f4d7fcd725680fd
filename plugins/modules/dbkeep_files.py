#!/usr/bin/python
"""Keeps several directories and files in one round trip."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dbkeep_files
short_description: Keeps the directories and files of a role in one round trip
description:
  - Like M(ansible.builtin.file) and M(ansible.builtin.template) for a list.
  - A file appears whole, with its owner and mode, after its validation, or not at all.
options:
  directories:
    description: Directories to make, in order.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: The directory., type: path, required: true}
      owner: {description: Its owner., type: str, default: root}
      group: {description: Its group., type: str, default: root}
      mode: {description: Its mode., type: str, default: "0755"}
  files:
    description: Files to write, in order.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: The file., type: path, required: true}
      content: {description: What stands in it., type: str, required: true}
      owner: {description: Its owner., type: str, default: root}
      group: {description: Its group., type: str, default: root}
      mode: {description: Its mode., type: str, default: "0644"}
      validate: {description: "Command that must accept the file before it is put in place, with %s for it.", type: str}
      secret: {description: Leave it out of diffs., type: bool, default: false}
      initial: {description: "Write it only where there is none: a service keeps it later.", type: bool, default: false}
"""

EXAMPLES = """
- name: Write settings
  dbkeep_files:
    directories: [{path: /etc/systemd/journald.conf.d}]
    files:
      - path: /etc/systemd/journald.conf.d/60-dbkeep.conf
        content: "{{ lookup('template', 'journald.conf.j2') }}"
"""

RETURN = """
paths:
  description: The directories and files that changed.
  type: list
  elements: str
  returned: success
"""

OWNERSHIP = {"path": {"type": "path", "required": True}, "owner": {"default": "root"}, "group": {"default": "root"}}
DIRECTORY = {**OWNERSHIP, "mode": {"default": "0755"}}
FILE = {
    **OWNERSHIP,
    "mode": {"default": "0644"},
    "content": {"required": True},
    "validate": {},
    "secret": {"type": "bool", "default": False},
    "initial": {"type": "bool", "default": False},
}


def keep_attributes(module: AnsibleModule, wanted: dict[str, Any]) -> bool:
    arguments = module.load_file_common_arguments({**module.params, **wanted})
    return bool(module.set_fs_attributes_if_different(arguments, False))


def keep_directory(module: AnsibleModule, wanted: dict[str, Any]) -> dict[str, Any] | None:
    path = Path(wanted["path"])
    if path.is_dir():
        return {"after_header": str(path)} if keep_attributes(module, wanted) else None
    if not module.check_mode:
        path.mkdir(mode=0o700, parents=True)
        keep_attributes(module, wanted)
    return {"before_header": str(path), "after_header": str(path), "before": "", "after": "a directory\n"}


def keep_file(module: AnsibleModule, wanted: dict[str, Any]) -> dict[str, Any] | None:
    path, content = Path(wanted["path"]), wanted["content"]
    present = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    if present == content or (wanted["initial"] and present is not None):
        return {"after_header": str(path)} if keep_attributes(module, wanted) else None
    if not module.check_mode:
        write(module, path, wanted)
    shown = ("hidden before\n", "hidden after\n") if wanted["secret"] else (present or "", content)
    return {"before_header": str(path), "after_header": str(path), "before": shown[0], "after": shown[1]}


def write(module: AnsibleModule, path: Path, wanted: dict[str, Any]) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(wanted["content"])
            file.flush()
            os.fsync(file.fileno())
        keep_attributes(module, {**wanted, "path": name})
        if wanted["validate"]:
            status, out, err = module.run_command(shlex.split(wanted["validate"] % name))
            if status != 0:
                module.fail_json(msg=f"{path}: {wanted['validate']}: {' '.join((err or out).split())}")
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directories": {"type": "list", "elements": "dict", "default": [], "options": DIRECTORY},
            "files": {"type": "list", "elements": "dict", "default": [], "options": FILE},
        },
        supports_check_mode=True,
    )
    try:
        kept = [(d["path"], keep_directory(module, d)) for d in module.params["directories"]]
        kept += [(f["path"], keep_file(module, f)) for f in module.params["files"]]
    except OSError as error:
        module.fail_json(msg=str(error))
    diffs = {path: diff for path, diff in kept if diff}
    module.exit_json(changed=bool(diffs), paths=list(diffs), diff=list(diffs.values()))


if __name__ == "__main__":
    main()
