"""Secrets of the vault are found and taken out of text."""

import pytest

from dbkeep.redaction import WITHHELD, holds_secret, redact, secret_values
from dbkeep.tls import new_authority, new_private_key

PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\nCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"
VAULT = {
    "ca_private_key": PEM,
    "redis": {"admin": "long-enough-password", "short": "tiny"},
    "list": ["another-secret-1"],
}


def test_nested_values_and_lines_of_keys_are_secrets_but_armour_is_not() -> None:
    values = secret_values(VAULT)
    assert {"long-enough-password", "another-secret-1", "MIGHAgEAMBMGByqGSM49AgEG"} <= values
    assert "tiny" not in values
    assert not holds_secret("-----BEGIN PRIVATE KEY-----", values)


def test_every_secret_is_replaced_the_longer_first() -> None:
    values = frozenset({"abcdefghijkl", "abcdefghijklmnop"})
    assert redact("x=abcdefghijklmnop y=abcdefghijkl", values) == f"x={WITHHELD} y={WITHHELD}"


def test_text_without_a_secret_stays_as_it_is() -> None:
    assert redact("all is well", secret_values(VAULT)) == "all is well"


@pytest.mark.parametrize("length", range(1, 20))
def test_a_certificate_shows_no_secret_of_its_key(length: int) -> None:
    """Both hold the public key, and where its bytes come to lie in base64 depends on the length of the name."""
    key = new_private_key()
    values = secret_values({"ca_private_key": key})
    assert not holds_secret(new_authority(key, "x" * length), values)
    assert holds_secret(key, values)
