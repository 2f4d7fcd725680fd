"""What a throw-away mongod with access control and TLS needs, issued as the roles issue it on a host."""

from __future__ import annotations

import secrets
from pathlib import Path

from dbkeep import tls
from dbkeep.sandbox.mongodb import Security

SERVER = tls.Subject("sandbox", ("localhost", "127.0.0.1"), organizational_unit="mongodb")
ADMINISTRATOR = tls.Subject("mongodb-admin", organizational_unit="administrators", client=True)


def issue(folder: Path) -> Security:
    """Write an authority, a server's and an administrator's certificate and a keyfile to `folder`, and return them."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = tls.new_private_key()
    authority = tls.new_authority(key, "sandbox")

    def certificate(name: str, subject: tls.Subject) -> Path:
        own = tls.new_private_key()
        signed = tls.sign(tls.new_request(own, name), subject, private_key=key, authority=authority)
        return _write(folder / f"{name}.pem", own + signed)

    return Security(
        keyfile=_write(folder / "keyfile", secrets.token_hex(64)),
        ca_file=_write(folder / "ca.crt", authority),
        server_certificate=certificate("mongodb", SERVER),
        administrator_certificate=certificate("mongodb-admin", ADMINISTRATOR),
    )


def _write(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")
    path.chmod(0o400)
    return path
