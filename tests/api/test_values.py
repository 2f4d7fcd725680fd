"""Field encryption, blind index, tokens, cursors and configuration: what needs no server."""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import bson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from chat_api.auth.tokens import AccessTokens, Identity, new_refresh_token, parse_refresh_token
from chat_api.configuration import ConfigurationError, addresses, read_configuration, read_credentials
from chat_api.conversations.repository import private_id
from chat_api.encryption import BlindIndex, Cell, DecryptionError, FieldCipher, normal_address
from chat_api.identifiers import uuid7
from chat_api.key_ring import KeyRing
from chat_api.paging import Cursor, parse
from chat_api.text import storable, storable_json

KEYS = {1: secrets.token_bytes(32), 2: secrets.token_bytes(32)}
RING = KeyRing(KEYS)
CELL = Cell("users", "email", uuid7())


@given(st.text(max_size=254).filter(lambda text: "\x00" not in text))
def test_a_value_decrypts_only_where_it_belongs(text: str) -> None:
    cipher = FieldCipher(RING)
    value = cipher.encrypt(text, CELL)
    assert cipher.decrypt(value, CELL) == text
    elsewhere = (Cell("users", "email", uuid7()), Cell("users", "phone", CELL.row), Cell("profiles", "email", CELL.row))
    for cell in elsewhere:
        with pytest.raises(DecryptionError):
            cipher.decrypt(value, cell)


def test_a_value_of_an_old_key_decrypts_as_long_as_the_key_is_there() -> None:
    old = FieldCipher(KeyRing({1: KEYS[1]})).encrypt("ada@example.org", CELL)
    both = FieldCipher(RING)
    assert both.decrypt(old, CELL) == "ada@example.org"
    assert both.encrypt("ada@example.org", CELL).startswith("e1:2:")
    with pytest.raises(DecryptionError):
        FieldCipher(KeyRing({2: KEYS[2]})).decrypt(old, CELL)


@given(st.text(max_size=60), st.data())
def test_every_flipped_bit_is_refused(text: str, data: st.DataObject) -> None:
    cipher = FieldCipher(RING)
    raw = bytearray(cipher.encrypt(text, CELL).encode("ascii"))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DecryptionError):
        cipher.decrypt(raw.decode("latin-1"), CELL)


@given(st.text(max_size=600))
def test_what_is_no_value_is_refused(text: str) -> None:
    with pytest.raises(DecryptionError):
        FieldCipher(RING).decrypt(text, CELL)


@pytest.mark.parametrize(
    "version", ["3", "0", "-1", "+1", "01", " 1", "1_", "\u0661", "", "1.0", "99999999999999999999"]
)
def test_an_unknown_version_is_refused(version: str) -> None:
    cipher = FieldCipher(RING)
    for of, key in KEYS.items():
        form, _, wrapped, sealed = FieldCipher(KeyRing({of: key})).encrypt("ada@example.org", CELL).split(":")
        with pytest.raises(DecryptionError):
            cipher.decrypt(f"{form}:{version}:{wrapped}:{sealed}", CELL)
        # A known version that is not its own is no better.
        with pytest.raises(DecryptionError):
            cipher.decrypt(f"{form}:{3 - of}:{wrapped}:{sealed}", CELL)


def test_a_pending_key_reads_and_does_not_write() -> None:
    ring = KeyRing({1: KEYS[1]}).with_pending(2, KEYS[2])
    waiting, ahead = FieldCipher(ring), FieldCipher(ring.promoted())
    assert waiting.decrypt(ahead.encrypt("ada@example.org", CELL), CELL) == "ada@example.org"
    assert ahead.encrypt("ada@example.org", CELL).startswith("e1:2:")
    assert waiting.encrypt("ada@example.org", CELL).startswith("e1:1:")
    indexes = [BlindIndex(made, "users", "email") for made in (ring, ring.promoted())]
    assert indexes[0].candidates("a@b") == indexes[1].candidates("a@b")
    assert indexes[0].of("a@b") == indexes[0].candidates("a@b")[1]
    assert indexes[1].of("a@b") == indexes[0].candidates("a@b")[2]


@given(
    st.dictionaries(st.integers(1, 999_999_999), st.binary(min_size=32, max_size=32), min_size=1, max_size=5),
    st.booleans(),
)
def test_a_key_ring_is_read_back(keys: dict[int, bytes], pending: bool) -> None:
    assume(len(set(keys.values())) == len(keys) and (len(keys) > 1 or not pending))
    ring = KeyRing(keys, max(keys) if pending else None)
    assert KeyRing.parse(ring.text) == ring
    assert all(key.hex() not in repr(ring) for key in keys.values())


@pytest.mark.parametrize(
    "lines", ["", "1:{0}:pending", "1:{0}\n1:{1}", "1:{0}\n2:{0}", "1:{0}:pending\n2:{1}", "0:{0}", "1:x"]
)
def test_a_ring_that_cannot_write_is_refused_without_a_key(lines: str) -> None:
    texts = [base64.b64encode(key).decode() for key in KEYS.values()]
    with pytest.raises(ValueError, match=r".") as refused:
        KeyRing.parse(lines.format(*texts))
    assert not any(text in str(refused.value) for text in texts)


@given(st.text(max_size=60), st.text(max_size=60))
def test_indexes_are_equal_exactly_for_equal_forms_under_one_key(one: str, other: str) -> None:
    index = BlindIndex(RING, "users", "email")
    assert (index.of(one) == index.of(other)) == (one == other)
    assert index.of(one) not in {BlindIndex(RING, "users", "phone").of(one), index.candidates(one)[1]}


def test_equal_addresses_never_give_equal_values_but_equal_indexes() -> None:
    cipher, index = FieldCipher(RING), BlindIndex(RING, "users", "email")
    assert cipher.encrypt("a@b", CELL) != cipher.encrypt("a@b", CELL)
    same = ("Ada@Example.org", " ada@example.org", "\uff41da@example.org")
    assert len({index.of(normal_address(address)) for address in same}) == 1
    assert len(index.of("a")) == 32


def test_no_rendering_shows_a_key() -> None:
    shown = (
        repr(FieldCipher(RING)) + repr(BlindIndex(RING, "users", "email")) + repr(RING) + repr(AccessTokens(KEYS[1]))
    )
    assert "\\x" not in shown
    token = new_refresh_token()
    assert token.secret not in repr(token)


def test_access_token_of_another_key_or_algorithm_is_refused() -> None:
    identity = Identity(uuid7(), uuid7())
    ours, other = AccessTokens(KEYS[1]), AccessTokens(KEYS[2])
    assert ours.read(ours.sign(identity)) == identity
    assert other.read(ours.sign(identity)) is None
    header, payload, _ = ours.sign(identity).split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    for forged in (f"{none}.{payload}.", f"{header}.{payload}.", "", "a.b.c"):
        assert ours.read(forged) is None


def test_refresh_token_is_read_back() -> None:
    token = new_refresh_token()
    assert parse_refresh_token(token.text) == token
    assert parse_refresh_token(token.text + "\n") is None


def test_uuid7_is_ordered_and_well_formed() -> None:
    made = [uuid7() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert {(value.version, value.variant) for value in made} == {(7, "specified in RFC 4122")}
    milliseconds = [value.int >> 80 for value in made]
    assert milliseconds == sorted(milliseconds)


@given(st.integers(0, 2**47), st.binary(min_size=12, max_size=12))
def test_cursor_is_read_back_to_the_millisecond(milliseconds: int, raw: bytes) -> None:
    cursor = Cursor(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds), bson.ObjectId(raw))
    assert parse(cursor.text) == cursor


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_unstorable_text_is_refused(text: str) -> None:
    for check in (storable, storable_json):
        with pytest.raises(ValueError, match="stor"):
            check(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": ["\x00"]}, "x" * 4096])
def test_unstorable_json_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"stor|longer"):
        storable_json(value)


def test_addresses_are_read() -> None:
    found = [(address.host, address.port) for address in addresses("db1:5432, [2001:db8::1]:5433")]
    assert found == [("db1", 5432), ("2001:db8::1", 5433)]
    with pytest.raises(ValueError, match="host:port"):
        addresses("db1")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({}, "CHAT_API_CA_FILE"),
        ({"CHAT_API_CA_FILE": "/ca", "CHAT_API_LISTEN_PORT": "many"}, "CHAT_API_LISTEN_PORT"),
        ({"CHAT_API_CA_FILE": "/ca", "CHAT_API_SURPLUS": "1"}, "CHAT_API_SURPLUS"),
        ({"CHAT_API_CA_FILE": "/ca", "CHAT_API_REDIS_STATE": "a:1,b:2"}, "CHAT_API_REDIS_STATE"),
    ],
)
def test_a_wrong_setting_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read_configuration(variables)


def test_a_missing_empty_or_short_credential_is_named(tmp_path: Path) -> None:
    names = ("tls_certificate", "tls_key", "postgresql_app_api", "postgresql_app_auth", "mongodb_chat_api")
    more = ("redis_svc_api", "redis_svc_auth", "token_key", "field_key", "blind_index_key", "context_key")
    for name in (*names, *more):
        (tmp_path / name).write_text(secrets.token_urlsafe(32), encoding="ascii")
    read = read_credentials(tmp_path)
    assert (tmp_path / "token_key").read_text(encoding="ascii") not in repr(read)
    for name, text in {
        "token_key": "short",
        "field_key": "one:two",
        "blind_index_key": "1:a:2",
        "mongodb_chat_api": " ",
    }.items():
        before = (tmp_path / name).read_text(encoding="ascii")
        (tmp_path / name).write_text(text, encoding="ascii")
        with pytest.raises(ConfigurationError, match=name):
            read_credentials(tmp_path)
        (tmp_path / name).write_text(before, encoding="ascii")
    (tmp_path / "redis_svc_auth").unlink()
    with pytest.raises(ConfigurationError, match="redis_svc_auth"):
        read_credentials(tmp_path)


def test_keys_of_several_versions_are_read(tmp_path: Path) -> None:
    names = ("tls_certificate", "tls_key", "postgresql_app_api", "postgresql_app_auth", "mongodb_chat_api")
    for name in (*names, "redis_svc_api", "redis_svc_auth", "token_key", "blind_index_key", "context_key"):
        (tmp_path / name).write_text(secrets.token_urlsafe(32), encoding="ascii")
    lines = "".join(f"{version}:{base64.b64encode(key).decode()}\n" for version, key in KEYS.items())
    (tmp_path / "field_key").write_text(lines, encoding="ascii")
    assert read_credentials(tmp_path).field_keys == RING


def test_identifiers_of_two_users_make_one_private_conversation() -> None:
    one, other = str(uuid4()), str(uuid4())
    assert private_id([one, other]) == private_id([other, one]) != private_id([one, str(uuid4())])
