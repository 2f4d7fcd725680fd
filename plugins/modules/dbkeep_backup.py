#!/usr/bin/python
"""Takes, restores and drills backup sets of this host: `dbkeep agent backup`, called by Ansible."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    from dbkeep.backup.drill.claims import read_claims
    from dbkeep.backup.drill.run import drill
    from dbkeep.backup.manifest import NEWEST
    from dbkeep.backup.restore.run import plan, restore
    from dbkeep.backup.run import run
    from dbkeep.backup.settings import LOCAL, BackupHost, off_host_store, read_host
    from dbkeep.errors import DbkeepError

    MISSING = None
except ImportError as error:
    MISSING = str(error)

DOCUMENTATION = """
module: dbkeep_backup
short_description: Takes, restores and drills backup sets of the engines on this host
description:
  - Runs with the agent's Python, C(/opt/dbkeep/venv/bin/python), as root.
  - Needs pipelining, so that O(identity) reaches the host by standard input and is never in a file there.
  - Check mode takes and drills nothing; of a restore it answers with the plan.
options:
  operation:
    description: >-
      V(run) takes a set; V(plan) says what a restore would replace and lose; V(restore) puts a set in place of the
      live data; V(drill) restores a set into throw-away engines and compares.
    type: str
    required: true
    choices: [run, plan, restore, drill]
  set_id:
    description: The backup set; V(newest) of this host by default. Required for V(run).
    type: str
    default: newest
  engines:
    description: Only these; all of the host when empty. Those that the host does not have are left out.
    type: list
    elements: str
    default: []
  store:
    description: >-
      Whose copy V(plan), V(restore) and V(drill) take: V(local) is what lies on the host, any other the name of a store
      in C(backup_stores). Empty is V(local), and for V(drill) the first store off the host where there is one.
    type: str
    default: ""
  claims:
    description: >-
      What the environment declares of the engines, as P(dbkeep_claims#lookup) returns it: V(drill) attacks its copies
      as every role, and the newest set must be as declared.
    type: dict
    default: {}
  identity:
    description: The age identity that opens the set, for V(restore) and V(drill).
    type: str
"""

EXAMPLES = """
- name: Drill the newest set
  dbkeep_backup:
    operation: drill
    claims: "{{ lookup('dbkeep_claims', 'postgresql', 'mongodb', 'redis') }}"
    identity: "{{ dbkeep_secrets.backup.age_identity }}"
  vars:
    ansible_python_interpreter: /opt/dbkeep/venv/bin/python
"""

RETURN = """
evidence:
  description: The record of a restore or drill.
  type: dict
  returned: for V(restore) and V(drill)
parts:
  description: The manifests of the set for V(run), what is replaced and lost for V(plan).
  type: list
  elements: dict
  returned: for V(run) and V(plan)
"""


def perform(module: AnsibleModule, host: BackupHost) -> dict[str, Any]:
    operation, set_id, store = (module.params[name] for name in ("operation", "set_id", "store"))
    store = store or (off_host_store(host.settings.readable_stores) if operation == "drill" else LOCAL)
    wanted = module.params["engines"]
    engines = [name for name in host.engines if not wanted or name in wanted]
    if not engines:
        return {"changed": False, "parts": []}
    if operation == "plan" or (operation == "restore" and module.check_mode):
        return {"changed": operation == "restore", **plan(host, set_id, engines, store)}
    if module.check_mode:
        return {"changed": operation == "run", "parts": []}
    if operation == "run":
        return {"changed": True, "parts": [part.model_dump(mode="json") for part in run(host, set_id, engines)]}
    if operation == "restore":
        return {"changed": True, "evidence": restore(host, set_id, engines, module.params["identity"], store=store)}
    evidence = drill(
        host,
        set_id,
        engines,
        module.params["identity"],
        store=store,
        claimed=read_claims(module.params["claims"]),
        strict=set_id == NEWEST,
    )
    if evidence["result"] != "passed":
        module.fail_json(msg=f"the drill of set {evidence['observed']['set_id']} failed", evidence=evidence)
    return {"changed": False, "evidence": evidence}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "operation": {"type": "str", "required": True, "choices": ["run", "plan", "restore", "drill"]},
            "set_id": {"type": "str", "default": "newest"},
            "engines": {"type": "list", "elements": "str", "default": []},
            "store": {"type": "str", "default": ""},
            "claims": {"type": "dict", "default": {}},
            "identity": {"type": "str", "no_log": True},
        },
        required_if=[("operation", "restore", ["identity"]), ("operation", "drill", ["identity"])],
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=f"{MISSING}; use /opt/dbkeep/venv/bin/python, which the agent role makes")
    try:
        module.exit_json(**perform(module, read_host()))
    except DbkeepError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
