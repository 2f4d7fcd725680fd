#!/usr/bin/python
"""Keeps services running with the configuration that is on disk."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dbkeep_services
short_description: Keeps services enabled, started and running with their files
description:
  - Starts a stopped service, restarts or reloads one whose files changed since it read them.
  - A handler is forgotten when a run is interrupted between the change and the end of the play. This module looks at
    the files and the service instead, so the next run finds what the interrupted one left undone.
  - What a service last read is noted below /run, which ends with the machine's run like the services do.
options:
  units:
    description: Services, in the order of starting.
    type: list
    elements: dict
    required: true
    suboptions:
      unit: {description: "Name with its type. init.scope is the service manager itself.", type: str, required: true}
      restart_for: {description: Files (or patterns) it reads at start only., type: list, elements: str, default: []}
      restart_allowed: {description: "If not, a restart it needs is a warning.", type: bool, default: true}
      restart_variable: {description: "The variable that allows a restart, for that warning.", type: str}
      ready:
        description: A command that ends when the restarted service serves again.
        type: list
        elements: str
        default: []
      reload_for: {description: Files (or patterns) it reads again at reload., type: list, elements: str, default: []}
"""

EXAMPLES = """
- name: Run with these rules
  dbkeep_services:
    units: [{unit: nftables.service, reload_for: [/etc/nftables.conf]}]
"""

RETURN = """
actions:
  description: What was done, each with unit and action (enable, start, restart or reload).
  type: list
  elements: dict
  returned: success
"""

NOTES = Path("/run/dbkeep/services")
MANAGER = "init.scope"
PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,ActiveEnterTimestampMonotonic"


def systemctl(module: AnsibleModule, *words: str) -> str:
    status, out, err = module.run_command(["systemctl", *words])
    if status != 0:
        module.fail_json(msg=f"systemctl {' '.join(words)}: {' '.join((err or out).split())}")
    return str(out)


def wait(module: AnsibleModule, command: list[str]) -> None:
    status, out, err = module.run_command(command)
    if status != 0:
        module.fail_json(msg=" ".join((err or out).split()))


def show(module: AnsibleModule, unit: str) -> dict[str, str]:
    lines = systemctl(module, "show", "--property", PROPERTIES, unit).splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def look(patterns: list[str]) -> tuple[str, float]:
    """Return a digest of the files and the time of the newest change (wall clock, seconds)."""
    paths = sorted(path for pattern in patterns for path in Path("/").glob(pattern.lstrip("/")))
    whole = hashlib.sha256()
    for path in paths:
        whole.update(bytes(path) + b"\0" + path.read_bytes())
    return whole.hexdigest(), max((path.stat().st_ctime for path in paths), default=0.0)


def needed(wanted: dict[str, Any], state: dict[str, str], noted: dict[str, str | None]) -> list[str]:
    """Return the actions the service needs, of "start", "restart" and "reload", the stronger first."""
    if state["ActiveState"] not in ("active", "reloading"):
        return ["start"]
    read_at = time.time() - time.monotonic() + int(state["ActiveEnterTimestampMonotonic"]) / 1e6
    actions = []
    for action in ("restart", "reload"):
        digest, changed_at = look(wanted[f"{action}_for"])
        # A service started after the change has read it, whoever started it.
        if digest != noted.get(action) and changed_at > read_at:
            actions.append(action)
    return actions


def keep(module: AnsibleModule, wanted: dict[str, Any]) -> list[str]:
    unit, act = wanted["unit"], not module.check_mode
    state = show(module, unit)
    if state["LoadState"] != "loaded":
        if module.check_mode:
            return ["enable", "start"]
        module.fail_json(msg=f"{unit}: {state['LoadState']}; is its package installed?")
    if state["NeedDaemonReload"] == "yes" and act:
        systemctl(module, "daemon-reload")
    actions = []
    if state["UnitFileState"] == "disabled":
        actions.append("enable")
        if act:
            systemctl(module, "enable", unit)
    # One note for each task that keeps the unit: two roles may each have files of the same service.
    files = hashlib.sha256(json.dumps([wanted["restart_for"], wanted["reload_for"]]).encode()).hexdigest()
    note = NOTES / f"{unit}-{files[:8]}.json"
    noted = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    # Before the action: a file that changes while the service reads it counts as changed next time.
    now = {action: look(wanted[f"{action}_for"])[0] for action in ("restart", "reload")}
    needs = needed(wanted, state, noted)
    if "restart" in needs and not wanted["restart_allowed"]:
        module.warn(
            f"{unit} runs on without what changed in {', '.join(wanted['restart_for'])}:"
            f" it needs a restart, which is not allowed: run the playbook with -e {wanted['restart_variable']}=true"
        )
        needs.remove("restart")
        now["restart"] = noted.get("restart")
    for action in needs[:1]:
        actions.append(action)
        if act:
            systemctl(module, *(["daemon-reload"] if unit == MANAGER else [action, unit]))
        if act and action == "restart" and wanted["ready"]:
            wait(module, wanted["ready"])
    if act and noted != now:
        NOTES.mkdir(mode=0o755, parents=True, exist_ok=True)
        note.with_suffix(".new").write_text(json.dumps(now), encoding="utf-8")
        note.with_suffix(".new").replace(note)
    return actions


def main() -> None:
    unit = {
        "unit": {"type": "str", "required": True},
        "restart_for": {"type": "list", "elements": "str", "default": []},
        "restart_allowed": {"type": "bool", "default": True},
        "restart_variable": {"type": "str"},
        "ready": {"type": "list", "elements": "str", "default": []},
        "reload_for": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={"units": {"type": "list", "elements": "dict", "required": True, "options": unit}},
        supports_check_mode=True,
    )
    try:
        kept = [(wanted["unit"], keep(module, wanted)) for wanted in module.params["units"]]
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    actions = [{"unit": unit, "action": action} for unit, done in kept for action in done]
    diff = {"prepared": "".join(f"{a['action']} {a['unit']}\n" for a in actions)}
    module.exit_json(changed=bool(actions), actions=actions, diff=diff)


if __name__ == "__main__":
    main()
