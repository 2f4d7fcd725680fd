"""Renders redis.conf of an instance on the controller, exactly as the agent's plan expects it on the host."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dbkeep.environment import checkout
from dbkeep.errors import DbkeepError
from dbkeep.redis import read_declared
from dbkeep.redis.statements import configuration_file, directives

DOCUMENTATION = """
name: dbkeep_redis_configuration
short_description: Renders redis.conf of a declared instance
description:
  - Joins redis/instances.yml of the checkout with what only the host knows. The agent compares the live server and the
    file with the same rendering, so both agree by construction.
options:
  _terms:
    description: Names of instances in redis/instances.yml.
    type: list
    elements: str
    required: true
  version:
    description: Version of the server, like C(7.0). Settings that it does not know are left out.
    type: str
    required: true
  host_settings:
    description: The host's own directives by instance.
    type: dict
    required: true
  memory_bytes:
    description: The memory that memory_share is a share of.
    type: int
    required: true
"""

EXAMPLES = """
- name: Write redis.conf
  ansible.builtin.copy:
    content: "{{ lookup('dbkeep_redis_configuration', 'state', version='7.0', host_settings={'state': {}},
                 memory_bytes=1073741824) }}"
    dest: /etc/redis/redis-state.conf
    mode: "0640"
"""

RETURN = """
_list:
  description: The text of redis.conf for each instance.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        version = tuple(map(int, self.get_option("version").split(".")))
        host_settings, memory_bytes = self.get_option("host_settings"), self.get_option("memory_bytes")
        try:
            declared = read_declared(checkout())
            return [
                configuration_file(directives(declared, name, version, host_settings[name], memory_bytes))
                for name in terms
            ]
        except DbkeepError as error:
            raise AnsibleError(str(error)) from None
