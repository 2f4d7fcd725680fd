"""Turns backup_stores into what a host gets of it: the agent's settings, and the files with keys and authorities."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dbkeep.backup.stores.declared import declared_stores, host_files
from dbkeep.errors import DbkeepError

DOCUMENTATION = """
name: dbkeep_backup_stores
short_description: Turns backup_stores into settings and files of a host
description:
  - Refuses, in one line, a store with a wrong or missing setting, and one whose secret key is not in the vault.
options:
  _terms:
    description: The variable backup_stores.
    type: list
    elements: list
    required: true
  keys:
    description: Secret keys by the store's name; the vault's C(dbkeep_secrets.backup.store_keys).
    type: dict
    default: {}
"""

EXAMPLES = """
- name: Show the settings
  ansible.builtin.debug:
    var: lookup('dbkeep_backup_stores', backup_stores, keys=dbkeep_secrets.backup.store_keys)
"""

RETURN = """
_list:
  description: C(settings), the value of C(stores) in backup.json, and C(files) for M(dbkeep_files).
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        keys = self.get_option("keys") or {}
        try:
            return [
                {
                    "settings": [store.model_dump(mode="json") for store in declared_stores(entries)],
                    "files": host_files(entries, keys),
                }
                for entries in terms
            ]
        except DbkeepError as error:
            raise AnsibleError(str(error)) from None
