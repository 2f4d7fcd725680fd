"""Reads on the controller what a drill's copies are attacked against: declared state and accepted leaks."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dbkeep.backup.drill.claims import claims
from dbkeep.engines import OVERRIDES
from dbkeep.environment import checkout
from dbkeep.errors import DbkeepError

DOCUMENTATION = """
name: dbkeep_claims
short_description: Reads what is claimed of engines
description:
  - Reads the declared state of engines and their leak budgets, for O(dbkeep_backup#module:claims).
options:
  _terms:
    description: The engines, of C(postgresql), C(mongodb) and C(redis).
    type: list
    elements: str
    required: true
"""

EXAMPLES = """
- name: Drill the newest set
  dbkeep_backup:
    operation: drill
    claims: "{{ lookup('dbkeep_claims', 'postgresql', 'mongodb', 'redis') }}"
    identity: "{{ dbkeep_secrets.backup.age_identity }}"
"""

RETURN = """
_list:
  description: One dictionary, with a claim by engine.
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        names = {variable for name in terms for variable in OVERRIDES.get(name, {})}
        chosen = {name: str(variables[name]) for name in names if name in (variables or {})}
        try:
            return [claims(checkout(), chosen, terms)]
        except DbkeepError as error:
            raise AnsibleError(str(error)) from None
