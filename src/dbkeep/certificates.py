"""The key and certificate files of a host's services: what is missing, what must be signed, and installing it."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbkeep.errors import UsageError
from dbkeep.files import write_atomically
from dbkeep.tls import Subject, new_private_key, new_request, why_renew


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate a service needs: NAME.key, NAME.crt and NAME.pem (key and certificate), and who may read them."""

    name: str
    subject: Subject
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True, slots=True)
class Kept:
    """What `keep` found: whether it changed something, and what the authority has to sign."""

    changed: bool
    requests: tuple[dict[str, str], ...]


def keep(
    directory: Path, certificates: Sequence[Certificate], *, authority: str, signed: Mapping[str, str], dry: bool
) -> Kept:
    """Make missing keys, install `signed` certificates (PEM by name) and return requests for those that do not fit.

    With `dry` nothing is written, and a certificate whose key does not exist yet counts as a change without a request.
    Raises UsageError when an owner does not exist or a key or signed certificate is not usable.
    """
    changed, requests = False, []
    for certificate in certificates:
        files = _Files(directory, certificate)
        key = _read(files.key)
        if key is None:
            changed, key = True, new_private_key()
            if not dry:
                files.write(files.key, key)
        held = signed.get(certificate.name) or _read(files.certificate)
        reason = why_renew(held, certificate.subject, private_key=key, authority=authority)
        if reason:
            changed = True
            asked = new_request(key, certificate.subject.common_name)
            requests.append({"name": certificate.name, "reason": reason, "request": asked})
        elif held:
            for path, content in ((files.certificate, held), (files.both, key + held)):
                if _read(path) != content:
                    changed = True
                    if not dry:
                        files.write(path, content)
        changed |= files.put_right(dry=dry)
    return Kept(changed, tuple(requests))


class _Files:
    def __init__(self, directory: Path, certificate: Certificate) -> None:
        self.key = directory / f"{certificate.name}.key"
        self.certificate = directory / f"{certificate.name}.crt"
        self.both = directory / f"{certificate.name}.pem"
        self._owner, self._group = certificate.owner, certificate.group

    def write(self, path: Path, content: str) -> None:
        write_atomically(path, content, mode=self._mode(path))
        os.chown(path, *self._ids())

    def put_right(self, *, dry: bool) -> bool:
        """Give the files their owner and mode; return whether one had another."""
        wrong = False
        for path in filter(Path.exists, (self.key, self.certificate, self.both)):
            status = path.stat()
            if (status.st_uid, status.st_gid, status.st_mode & 0o7777) != (*self._ids(), self._mode(path)):
                wrong = True
                if not dry:
                    os.chown(path, *self._ids())
                    path.chmod(self._mode(path))
        return wrong

    def _mode(self, path: Path) -> int:
        return 0o644 if path == self.certificate else 0o600

    def _ids(self) -> tuple[int, int]:
        try:
            return pwd.getpwnam(self._owner).pw_uid, grp.getgrnam(self._group).gr_gid
        except KeyError:
            raise UsageError(
                f"{self.key}: there is no user {self._owner} or group {self._group}; install the service first"
            ) from None


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
