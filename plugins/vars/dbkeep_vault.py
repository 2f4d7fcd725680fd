"""Finds the vault password of the environment that is being read: the file .vault-password in its inventory folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.vault import VaultSecret
from ansible.plugins.vars import BaseVarsPlugin

DOCUMENTATION = """
name: dbkeep_vault
short_description: Uses the vault password file that lies in the inventory folder
description:
  - Plain C(ansible-playbook -i inventory/NAME) opens the secrets of that environment and of no other.
  - An inventory folder without the file is left to Ansible's own ways of giving a vault password.
options: {}
"""

PASSWORD_FILE = ".vault-password"  # noqa: S105 - a file name


class VarsModule(BaseVarsPlugin):
    REQUIRES_ENABLED = True

    _given: set[Path] = set()  # noqa: RUF012 - one set for the process, like the secrets it mirrors

    def get_vars(self, loader: Any, path: str, entities: Any) -> dict[str, Any]:
        super().get_vars(loader, path, entities)
        file = Path(path) / PASSWORD_FILE
        if file not in self._given and file.is_file():
            self._given.add(file)
            # In place: this list is also where inline !vault values look.
            loader._vault.secrets.append((Path(path).name, VaultSecret(file.read_bytes().strip())))
        return {}
