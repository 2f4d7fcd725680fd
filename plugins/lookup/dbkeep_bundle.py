"""Makes the agent's bundle for the Python of a host, or finds the one made before."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dbkeep.bundle import build_bundle
from dbkeep.errors import DbkeepError

DOCUMENTATION = """
name: dbkeep_bundle
short_description: Makes or finds the bundle of the agent for a host
description:
  - The bundle holds this package and all it needs, from uv.lock's hashes. It is made once per state of the sources.
options:
  _terms:
    description: Python version of the host, like C(3.11).
    type: list
    elements: str
    required: true
  architecture:
    description: Machine type of the host.
    type: str
    default: x86_64
"""

EXAMPLES = """
- name: Copy the package
  ansible.builtin.copy:
    src: "{{ lookup('dbkeep_bundle', '3.11').package }}"
    dest: /opt/dbkeep/dbkeep.whl
    mode: "0644"
"""

RETURN = """
_list:
  description: For each version, the files C(dependencies) and C(package) on the controller, and the C(digest) of both.
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, str]]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            bundles = [build_bundle(str(t), architecture=self.get_option("architecture")) for t in terms]
        except DbkeepError as error:
            raise AnsibleError(str(error)) from None
        return [
            {"dependencies": str(bundle.dependencies), "package": str(bundle.package), "digest": bundle.digest}
            for bundle in bundles
        ]
