#!/usr/bin/python
"""Makes an engine on this host as declared: the plan and apply of `dbkeep`, called by Ansible."""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    from pydantic import ValidationError

    from dbkeep.engines import engine, required_settings
    from dbkeep.errors import DbkeepError
    from dbkeep.plan import apply, hold_back

    MISSING = None
except ImportError as error:
    MISSING = str(error)

DOCUMENTATION = """
module: dbkeep_state
short_description: Makes PostgreSQL, MongoDB or Redis as declared
description:
  - Compares the declared state with the live server through the local socket and applies the difference.
  - Runs with the agent's Python, C(/opt/dbkeep/venv/bin/python), as root.
  - Check mode plans and applies nothing. Changes that remove something wait for O(allow_destructive).
  - What needs a restart of the server that the agent's settings do not allow is a warning and stays undone.
options:
  engine:
    description: Which engine.
    type: str
    required: true
    choices: [postgresql, mongodb, redis]
  declared:
    description: What P(dbkeep_declared#lookup) returns for the engine.
    type: dict
    required: true
  secrets:
    description: Passwords by user.
    type: dict
    default: {}
  allow_destructive:
    description: Also run changes that remove something.
    type: bool
    default: false
"""

EXAMPLES = """
- name: Make the database as declared
  dbkeep_state:
    engine: postgresql
    declared: "{{ lookup('dbkeep_declared', 'postgresql') }}"
    secrets: "{{ dbkeep_secrets.postgresql }}"
  vars:
    ansible_python_interpreter: /opt/dbkeep/venv/bin/python
"""

RETURN = """
changes:
  description: The changes made, or in check mode those that would be, each with kind, target, summary, risk.
  type: list
  elements: dict
  returned: success
held:
  description: The changes that wait for O(allow_destructive) or what else they name.
  type: list
  elements: dict
  returned: success
"""


def text(value: Any) -> str:
    """Return a value as Ansible's diff can show it: it takes texts and dictionaries only."""
    if value is None:
        return ""
    return (value if isinstance(value, str) else json.dumps(value, indent=2, default=str)) + "\n"


def run(module: AnsibleModule) -> dict[str, Any]:
    name, allow = module.params["engine"], module.params["allow_destructive"]
    face, settings = engine(name), required_settings(name)
    declared = face.Declared.model_validate(module.params["declared"])
    plan = face.plan(settings, declared, module.params["secrets"])
    _, held = hold_back(plan, allow_destructive=allow)
    if module.check_mode or not plan:
        made = apply(plan, lambda _: None, allow_destructive=allow)
    else:
        made = face.apply(settings, declared, module.params["secrets"], allow_destructive=allow)
        if held:  # a migration may have made way for what waited
            _, held = hold_back(face.plan(settings, declared, module.params["secrets"]), allow_destructive=allow)
    for change in held:
        waits_for = change.waits_for or "allow_destructive"
        module.warn(f"{change.kind} {change.target}: {change.summary}: held back, it needs {waits_for}")
    diff = [
        {
            "before_header": f"{c.kind} {c.target}",
            "after_header": c.summary,
            "before": text(c.before),
            "after": text(c.after),
        }
        for c in made
    ]
    changes, held_back = [c.as_json() for c in made], [c.as_json() for c in held]
    return {"changed": bool(made), "changes": changes, "held": held_back, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "engine": {"type": "str", "required": True, "choices": ["postgresql", "mongodb", "redis"]},
            "declared": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "allow_destructive": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=f"{MISSING}; use /opt/dbkeep/venv/bin/python, which the agent role makes")
    try:
        module.exit_json(**run(module))
    except DbkeepError as error:
        module.fail_json(msg=str(error))
    except ValidationError as error:
        wrong = ".".join(map(str, error.errors()[0]["loc"]))
        module.fail_json(
            msg=f"the agent here and the checkout differ on {wrong}: run playbooks/site.yml, it updates the agent"
        )


if __name__ == "__main__":
    main()
