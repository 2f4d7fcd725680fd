#!/usr/bin/python
"""Keeps the keys and certificates of a host's services; keys never leave the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    from dbkeep.certificates import Certificate, keep
    from dbkeep.errors import DbkeepError
    from dbkeep.tls import Subject

    MISSING = None
except ImportError as error:
    MISSING = str(error)

DOCUMENTATION = """
module: dbkeep_certificates
short_description: Makes keys, asks for certificates and installs them
description:
  - Makes a missing key and returns a request for every certificate that is missing, ends within 30 days or does not
    fit its description. Called again with the signed certificates, it installs them.
  - Runs with the agent's Python, C(/opt/dbkeep/venv/bin/python), as root.
options:
  directory:
    description: Where NAME.key, NAME.crt and NAME.pem (key and certificate) are kept.
    type: path
    required: true
  authority:
    description: The authority's certificate, PEM.
    type: str
    required: true
  certificates:
    description: The certificates this host needs.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the files., type: str, required: true}
      owner: {description: Owner of the files., type: str, default: root}
      group: {description: Group of the files., type: str, default: root}
      common_name: {description: Common name of the subject; O(host_name) by default., type: str}
      organizational_unit: {description: Organizational unit of the subject., type: str}
      client: {description: It is for a client only., type: bool, default: false}
  host_name:
    description: The inventory's name of the host.
    type: str
    required: true
  host_names:
    description: Names and addresses of the host, for server certificates.
    type: list
    elements: str
    required: true
  signed:
    description: Certificates that the authority signed.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Which one it is., type: str, required: true}
      certificate: {description: The certificate, PEM., type: str, required: true}
"""

EXAMPLES = """
- name: Ask for certificates
  dbkeep_certificates:
    directory: /etc/dbkeep/tls
    authority: "{{ dbkeep_ca_certificate }}"
    host_name: db1
    host_names: [db1, 192.0.2.1]
    certificates: [{name: postgresql, owner: postgres, group: postgres}]
  register: asked
"""

RETURN = """
requests:
  description: What the authority has to sign, each with name, request (PEM) and reason.
  type: list
  elements: dict
  returned: success
"""

CERTIFICATE = {
    "name": {"type": "str", "required": True},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "common_name": {"type": "str"},
    "organizational_unit": {"type": "str"},
    "client": {"type": "bool", "default": False},
}
SIGNED = {"name": {"type": "str", "required": True}, "certificate": {"type": "str", "required": True}}


def run(module: AnsibleModule) -> dict[str, Any]:
    host = module.params["host_name"], module.params["host_names"]
    wanted = [
        Certificate(c["name"], Subject.of(c, *host), owner=c["owner"], group=c["group"])
        for c in module.params["certificates"]
    ]
    kept = keep(
        Path(module.params["directory"]),
        wanted,
        authority=module.params["authority"],
        signed={c["name"]: c["certificate"] for c in module.params["signed"]},
        dry=module.check_mode,
    )
    return {"changed": kept.changed, "requests": list(kept.requests)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "authority": {"type": "str", "required": True},
            "host_name": {"type": "str", "required": True},
            "host_names": {"type": "list", "elements": "str", "required": True},
            "certificates": {"type": "list", "elements": "dict", "required": True, "options": CERTIFICATE},
            "signed": {"type": "list", "elements": "dict", "default": [], "options": SIGNED},
        },
        supports_check_mode=True,
    )
    if MISSING:
        module.fail_json(msg=f"{MISSING}; use /opt/dbkeep/venv/bin/python, which the agent role makes")
    try:
        module.exit_json(**run(module))
    except (DbkeepError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
