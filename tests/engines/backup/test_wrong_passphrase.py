"""pgBackRest with another passphrase: what it reads is no text, and it repeats it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from dbkeep.backup.pgbackrest import PgBackRest
from dbkeep.errors import DbkeepError

from .conftest import write_pgbackrest


def test_it_is_one_line_whatever_comes_out(folder: Path) -> None:
    configuration = write_pgbackrest(folder)
    user = pwd.getpwnam("postgres")
    place = folder / "backup" / "postgresql" / "backup" / "chat"
    place.mkdir(parents=True)
    files = [place / "backup.info", place / "backup.info.copy"]
    for _ in range(12):
        # As enciphered by another key: to this one it is noise (openssl-enc(1): a salt, then blocks).
        for path in files:
            path.write_bytes(b"Salted__" + os.urandom(8 + 16 * 20))
            os.chown(path, user.pw_uid, user.pw_gid)
        for path in (place.parent, place):
            os.chown(path, user.pw_uid, user.pw_gid)
        with pytest.raises(DbkeepError, match=r"stanza chat"):
            PgBackRest("chat", configuration, "postgres").info()
