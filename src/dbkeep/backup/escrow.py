"""The escrow: what a restore needs besides a store, in one file that only the operators' offline keys open."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from dbkeep.backup.sealed_file import read_identities, seal
from dbkeep.backup.signature import public_pem
from dbkeep.environment import Environment, checkout
from dbkeep.errors import UsageError

KIT = Path("docs/recovery-kit.md")


def write_escrow(environment: Environment, path: Path) -> list[str]:
    """Seal inventory, secrets in clear, public signing keys and recovery kit into `path`; return who opens it.

    Those are the operators' public keys.

    The vault's own identity is not among them: it lies inside. Raises UsageError when there is no other recipient.
    """
    recipients = operators(environment)
    if not recipients:
        raise UsageError(
            f"inventory/{environment.name}: backup_age_recipients has no operator's key, only the vault's own: make "
            "one that is kept offline (age-keygen) and add its public half"
        )
    seal([_archive(environment)], path, recipients)
    return recipients


def operators(environment: Environment) -> list[str]:
    """Return the recipients of backups whose identity is not in the vault."""
    identity = environment.secrets.get("backup", {}).get("age_identity")
    own = {str(key.to_public()) for key in read_identities(identity)} if identity else set()
    return [key for key in environment.variables.get("backup_age_recipients") or () if key not in own]


def _archive(environment: Environment) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        _add(archive, "escrow/README.md", (checkout() / KIT).read_bytes())
        _add(archive, "escrow/secrets.json", json.dumps(environment.secrets, indent=2).encode())
        for number, key in enumerate(environment.variables.get("backup_signing_keys") or (), start=1):
            _add(archive, f"escrow/signing-keys/{number}.pem", public_pem(key).encode())
        for file in sorted(environment.path.rglob("*")):
            if file.is_file():
                name = f"escrow/inventory/{environment.name}/{file.relative_to(environment.path)}"
                _add(archive, name, file.read_bytes())
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    archive.addfile(entry, io.BytesIO(content))
