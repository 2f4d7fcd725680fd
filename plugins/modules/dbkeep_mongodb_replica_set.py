#!/usr/bin/python
"""Makes the members one replica set and gives it its administrator; called by the role mongodb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    from dbkeep.engines import required_settings
    from dbkeep.errors import DbkeepError
    from dbkeep.mongodb import bootstrap
    from dbkeep.mongodb.connect import address

    MISSING = None
except ImportError as error:
    MISSING = str(error)

DOCUMENTATION = """
module: dbkeep_mongodb_replica_set
short_description: Makes a MongoDB replica set and its administrator
description:
  - Initiates the replica set on the first run. Members that come and go later are the module dbkeep_state's.
  - The administrator is the subject of the client certificate in the agent's settings; it has no password. The
    localhost exception stays closed; the keyfile opens the account C(__system), which makes the administrator.
  - Runs on one member with the agent's Python, C(/opt/dbkeep/venv/bin/python), as root.
options:
  keyfile:
    description: The keyfile that the members share.
    type: path
    required: true
"""

EXAMPLES = """
- name: Make the replica set
  dbkeep_mongodb_replica_set:
    keyfile: /etc/mongodb/keyfile
  run_once: true
"""

RETURN = """
changes:
  description: The changes made, or in check mode those that would be, each with kind, target, summary, risk.
  type: list
  elements: dict
  returned: success
"""


def run(module: AnsibleModule) -> dict[str, Any]:
    settings: Any = required_settings("mongodb")
    members = settings.members or (address(settings),)
    changes = tuple(bootstrap.plan(settings, members))
    if changes and not module.check_mode:
        changes = bootstrap.apply(settings, members, Path(module.params["keyfile"]))
    diff = [
        {
            "before_header": f"{c.kind} {c.target}",
            "after_header": c.summary,
            "before": c.before or "",
            "after": c.after or "",
        }
        for c in changes
    ]
    return {"changed": bool(changes), "changes": [c.as_json() for c in changes], "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={"keyfile": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=f"{MISSING}; use /opt/dbkeep/venv/bin/python, which the agent role makes")
    try:
        module.exit_json(**run(module))
    except DbkeepError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
