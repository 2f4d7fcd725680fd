"""Reads the declared state of one engine on the controller, checked, as the agent expects it."""

from __future__ import annotations

from functools import cache
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dbkeep.engines import OVERRIDES, declared_state
from dbkeep.environment import checkout
from dbkeep.errors import DbkeepError

DOCUMENTATION = """
name: dbkeep_declared
short_description: Reads the declared state of an engine
description:
  - Reads sql/, mongo/ or redis/ of the checkout and checks it; an error names file, line and key.
  - The variable C(postgresql_context) goes before the context that sql/roles.yml declares.
options:
  _terms:
    description: The engines, of C(postgresql), C(mongodb) and C(redis).
    type: list
    elements: str
    required: true
"""

EXAMPLES = """
- name: Make the database as declared
  dbkeep_state:
    engine: postgresql
    declared: "{{ lookup('dbkeep_declared', 'postgresql') }}"
"""

RETURN = """
_list:
  description: One dictionary for each engine.
  type: list
  elements: dict
"""


@cache
def _read(name: str, overrides: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return declared_state(name, checkout(), dict(overrides)).model_dump(mode="json")


def _overrides(name: str, variables: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((variable, str(variables[variable])) for variable in OVERRIDES.get(name, {}) if variable in variables)


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [_read(name, _overrides(name, variables or {})) for name in terms]
        except DbkeepError as error:
            raise AnsibleError(str(error)) from None
