"""Renders a configuration file of PostgreSQL on the controller, exactly as the agent's plan expects it on the host."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from pydantic import ValidationError

from dbkeep.environment import checkout
from dbkeep.errors import DbkeepError
from dbkeep.postgresql import hba, read_declared
from dbkeep.postgresql.configuration import archive_settings, drop_in, server_settings
from dbkeep.settings import PostgreSQLAccess, PostgreSQLArchive, PostgreSQLServer

DOCUMENTATION = """
name: dbkeep_postgresql_configuration
short_description: Renders a configuration file of PostgreSQL
description:
  - Joins sql/settings.yml and sql/roles.yml of the checkout with what only the host knows. The agent compares the live
    server and the file with the same rendering, so both agree by construction.
options:
  _terms:
    description: The files, of C(server) and C(archive) (settings), C(hba) and C(ident) (client authentication).
    type: list
    elements: str
    required: true
  version:
    description: Major version of the server. Settings that it does not know are left out.
    type: int
    default: 0
  host:
    description: What the agent's settings say about the file.
    type: dict
    required: true
"""

EXAMPLES = """
- name: Write the settings of the archive
  ansible.builtin.copy:
    content: "{{ lookup('dbkeep_postgresql_configuration', 'archive', version=15,
                 host={'configuration_file': '/etc/postgresql/15/main/conf.d/70-dbkeep-backup.conf'}) }}"
    dest: /etc/postgresql/15/main/conf.d/70-dbkeep-backup.conf
    mode: "0640"
"""

RETURN = """
_list:
  description: The text of the file for each part.
  type: list
  elements: str
"""


def plain(value: Any) -> Any:
    """Return a copy without Ansible's containers, whose items are templates until Python asks for them."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return [self._text(name) for name in terms]
        except (DbkeepError, ValidationError) as error:
            raise AnsibleError(f"PostgreSQL: {' '.join(str(error).split())}") from None

    def _text(self, name: str) -> str:
        declared, host = read_declared(checkout()), plain(self.get_option("host"))
        if name == "hba":
            return hba.hba(declared, PostgreSQLAccess.model_validate(host))
        if name == "ident":
            return hba.ident()
        if name == "archive":
            archive = PostgreSQLArchive.model_validate(host)
            return drop_in(archive_settings(declared.configuration, archive.settings))
        server = PostgreSQLServer.model_validate(host)
        return drop_in(server_settings(declared.configuration, server, self.get_option("version")))
