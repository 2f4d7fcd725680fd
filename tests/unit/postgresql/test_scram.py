"""SCRAM verifiers."""

from __future__ import annotations

import base64

import pytest

from dbkeep.errors import UsageError
from dbkeep.postgresql import scram

# The exchange of RFC 7677, section 3: user "user", password "pencil".
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
SERVER_KEY = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="


def test_verifier_of_the_rfc() -> None:
    made = scram.verifier("pencil", salt=SALT, iterations=4096)
    assert made.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    assert made.endswith(f":{SERVER_KEY}")


def test_only_the_password_matches() -> None:
    stored = scram.verifier("right")
    assert scram.matches(stored, "right")
    assert not scram.matches(stored, "wrong")
    assert scram.verifier("right") != stored


@pytest.mark.parametrize("stored", [None, "", "md5" + "0" * 32, "plain"])
def test_anything_else_is_no_verifier(stored: str | None) -> None:
    assert not scram.is_verifier(stored)
    assert not scram.matches(stored, "plain")


@pytest.mark.parametrize("password", ["", "pässword", "tab\t", "line\n"])
def test_passwords_that_would_need_saslprep_are_refused(password: str) -> None:
    with pytest.raises(UsageError, match="printable ASCII"):
        scram.verifier(password)
