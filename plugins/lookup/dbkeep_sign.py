"""Signs the certificate requests of a host on the controller, with names that the controller decides."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dbkeep.errors import DbkeepError
from dbkeep.tls import Subject, sign

DOCUMENTATION = """
name: dbkeep_sign
short_description: Signs certificate requests
description:
  - Takes only the public key from a request; the names come from the certificate's description.
options:
  _terms:
    description: Requests as M(dbkeep_certificates) returns them, each with C(name) and C(request).
    type: list
    elements: dict
    required: true
  certificates:
    description: The descriptions that were given to M(dbkeep_certificates).
    type: list
    elements: dict
    required: true
  host_name:
    description: The inventory's name of the host.
    type: str
    required: true
  host_names:
    description: Names and addresses of the host, for server certificates.
    type: list
    elements: str
    required: true
  authority:
    description: The authority's certificate, PEM.
    type: str
    required: true
  private_key:
    description: The authority's private key, PEM.
    type: str
    required: true
"""

EXAMPLES = """
- name: Sign what the host asked for
  ansible.builtin.set_fact:
    signed: >-
      {{ query('dbkeep_sign', *asked.requests, certificates=wanted, host_name='db1', host_names=['db1', '192.0.2.1'],
               authority=ca, private_key=key) }}
"""

RETURN = """
_list:
  description: One certificate for each request, with C(name) and C(certificate) (PEM).
  type: list
  elements: dict
"""


class LookupModule(LookupBase):
    def run(self, terms: list[dict[str, str]], variables: Any = None, **kwargs: Any) -> list[dict[str, str]]:
        self.set_options(var_options=variables, direct=kwargs)
        host = self.get_option("host_name"), self.get_option("host_names")
        subjects = {c["name"]: Subject.of(c, *host) for c in self.get_option("certificates")}
        authority, key = self.get_option("authority"), self.get_option("private_key")
        try:
            return [
                {
                    "name": asked["name"],
                    "certificate": sign(
                        asked["request"], subjects[asked["name"]], private_key=key, authority=authority
                    ),
                }
                for asked in terms
            ]
        except DbkeepError as error:
            raise AnsibleError(str(error)) from None
