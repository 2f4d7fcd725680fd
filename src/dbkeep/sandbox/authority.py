"""A certificate authority in a folder, for throw-away servers and who connects to them over TLS."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from pathlib import Path

from dbkeep import tls
from dbkeep.sandbox.mongodb import Security

LOOPBACK = ("localhost", "127.0.0.1")
ADMINISTRATOR = tls.Subject("mongodb-admin", organizational_unit="administrators", client=True)


class Authority:
    """`file` is its certificate. Its key is in memory only."""

    def __init__(self, folder: Path, name: str = "sandbox") -> None:
        self.folder = folder
        self._private_key = tls.new_private_key()
        self.certificate = tls.new_authority(self._private_key, name)
        self.file = folder / "ca.crt"
        self.file.write_text(self.certificate, encoding="ascii")

    def issue(
        self, name: str, owners: tuple[str, ...] = (), *, subject: tls.Subject | None = None
    ) -> tuple[Path, Path, Path]:
        """Return certificate, key and both in one file, for the first of the users `owners` that exists here."""
        key = tls.new_private_key()
        subject = subject or tls.Subject(name, names=LOOPBACK)
        request = tls.new_request(key, name)
        signed = tls.sign(request, subject, private_key=self._private_key, authority=self.certificate)
        paths = tuple(self.folder / f"{name}.{kind}" for kind in ("crt", "key", "pem"))
        for path, text in zip(paths, (signed, key, key + signed), strict=True):
            path.touch(mode=0o600)
            path.write_text(text, encoding="ascii")
            if os.geteuid() == 0 and owners:
                known = {entry.pw_name for entry in pwd.getpwall()}
                shutil.chown(path, next(owner for owner in owners if owner in known))
        return paths[0], paths[1], paths[2]

    def mongodb(self) -> Security:
        """Return what a mongod with access control needs, its administrator's certificate among it."""
        keyfile = self.folder / "keyfile"
        keyfile.touch(mode=0o600)
        keyfile.write_text(secrets.token_hex(300), encoding="ascii")
        keyfile.chmod(0o400)
        return Security(
            keyfile=keyfile,
            ca_file=self.file,
            server_certificate=self.issue("mongodb")[2],
            administrator_certificate=self.issue("mongodb-admin", subject=ADMINISTRATOR)[2],
        )
