"""The vault file of an environment: dbkeep_secrets in Ansible's own encryption, so that plain Ansible reads it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret, is_encrypted

from dbkeep.errors import UsageError
from dbkeep.files import write_atomically
from dbkeep.secrets import VARIABLE, new_password

PASSWORD_FILE = Path(".vault-password")
VAULT_FILE = Path("group_vars/all/vault.yml")

_HEADER = "# Made by `dbkeep init`. Every value is random; none was ever a default.\n"


def ensure_password(environment: Path) -> None:
    """Make the vault password of the inventory folder `environment` if it has none and nothing is encrypted yet.

    Raises UsageError when there are secrets that a lost password encrypted.
    """
    path = environment / PASSWORD_FILE
    if path.exists():
        return
    vault = environment / VAULT_FILE
    if vault.exists() and is_encrypted(vault.read_bytes()):
        raise UsageError(f"{path} is missing, and {vault} is encrypted with it; put the password back")
    write_atomically(path, f"{new_password()}\n", mode=0o600)


def read_vault(environment: Path) -> dict[str, Any]:
    """Return the secrets of the inventory folder `environment`; {} when it has no vault file yet.

    Raises UsageError when the password file is missing or does not open the vault.
    """
    path = environment / VAULT_FILE
    if not path.exists():
        return {}
    content = path.read_bytes()
    try:
        parsed = yaml.safe_load(_vault(environment).decrypt(content) if is_encrypted(content) else content)
    except AnsibleError:
        raise UsageError(f"{path}: {environment / PASSWORD_FILE} does not open it; use the right password") from None
    except yaml.YAMLError:
        raise UsageError(f"{path} is not YAML; restore it, or delete it and run `dbkeep init` again") from None
    found = parsed.get(VARIABLE) if isinstance(parsed, dict) else None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {VARIABLE} is missing; restore it, or delete it and run `dbkeep init` again")
    return found


def write_vault(environment: Path, content: dict[str, Any]) -> None:
    """Encrypt `content` into the vault file of the inventory folder `environment`, atomically, mode 0600."""
    text = _HEADER + yaml.safe_dump({VARIABLE: content}, default_flow_style=False, width=4096)
    write_atomically(environment / VAULT_FILE, _vault(environment).encrypt(text).decode(), mode=0o600)


def _vault(environment: Path) -> Any:
    path = environment / PASSWORD_FILE
    try:
        password = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"{path}: the vault password cannot be read: {error.strerror}") from None
    if not password:
        raise UsageError(f"{path}: the vault password is empty")
    return VaultLib([("default", VaultSecret(password))])
