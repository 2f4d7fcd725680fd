"""Names the secrets of an environment that are missing, empty, guessable or used twice."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dbkeep.environment import checkout
from dbkeep.errors import DbkeepError
from dbkeep.secrets import engine_users, faults, wanted

DOCUMENTATION = """
name: dbkeep_secret_faults
short_description: Names bad secrets
description:
  - Compares secrets with the users of the declared state. Returns names and reasons, never a value.
options:
  _terms:
    description: The variable dbkeep_secrets.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = """
- name: Refuse bad secrets
  ansible.builtin.assert:
    that: query('dbkeep_secret_faults', dbkeep_secrets) | length == 0
"""

RETURN = """
_list:
  description: One line for each bad secret.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    def run(self, terms: list[dict[str, Any]], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            needs = wanted(engine_users(checkout()))
        except DbkeepError as error:
            raise AnsibleError(str(error)) from None
        return [line for secrets in terms for line in faults(secrets, needs)]
