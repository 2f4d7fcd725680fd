"""Certificates: what they say, when they are issued again, and that a host cannot choose its names."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from dbkeep.errors import UsageError
from dbkeep.tls import Subject, is_authority_of, new_authority, new_private_key, new_request, sign, why_renew

AUTHORITY_KEY = new_private_key()
AUTHORITY = new_authority(AUTHORITY_KEY, "test authority")
KEY = new_private_key()
SERVER = Subject("db1", ("db1", "localhost", "127.0.0.1", "::1"))


def issue(subject: Subject = SERVER, *, key: str = KEY, now: datetime | None = None) -> str:
    return sign(new_request(key, "anything"), subject, private_key=AUTHORITY_KEY, authority=AUTHORITY, now=now)


def renew(
    certificate: str | None, subject: Subject = SERVER, *, key: str = KEY, authority: str = AUTHORITY
) -> str | None:
    return why_renew(certificate, subject, private_key=key, authority=authority)


def test_a_fresh_certificate_stays() -> None:
    assert renew(issue()) is None


@pytest.mark.parametrize(
    ("certificate", "subject", "key", "reason"),
    [
        (None, SERVER, KEY, "there is none"),
        ("not a certificate", SERVER, KEY, "it cannot be read"),
        (issue(), SERVER, new_private_key(), "it is for another key"),
        (issue(), Subject("db1", ("db1", "10.0.0.9")), KEY, "its names changed"),
        (issue(), Subject("db2", SERVER.names), KEY, "its names changed"),
        (issue(), Subject("db1", SERVER.names, client=True), KEY, "its usage changed"),
        (issue(), Subject("db1", SERVER.names, organizational_unit="admin"), KEY, "its names changed"),
    ],
)
def test_a_certificate_that_does_not_fit_is_issued_again(
    certificate: str | None, subject: Subject, key: str, reason: str
) -> None:
    assert renew(certificate, subject, key=key) == reason


def test_a_certificate_is_renewed_in_its_last_thirty_days() -> None:
    now = datetime.now(UTC)
    assert renew(issue(now=now - timedelta(days=397 - 31))) is None
    old = issue(now=now - timedelta(days=397 - 29))
    assert renew(old) == f"it ends on {now + timedelta(days=29):%Y-%m-%d}"


def test_another_authority_of_the_same_name_is_noticed() -> None:
    other = new_authority(new_private_key(), "test authority")
    assert renew(issue(), authority=other) == "another authority signed it"


def test_the_controller_decides_the_names_not_the_request() -> None:
    certificate = x509.load_pem_x509_certificate(
        sign(new_request(KEY, "somebody-else"), SERVER, private_key=AUTHORITY_KEY, authority=AUTHORITY).encode()
    )
    assert certificate.subject.rfc4514_string() == "CN=db1"


def test_a_client_subject_reads_as_mongodb_names_its_users() -> None:
    admin = Subject.of({"client": True, "common_name": "dbkeep", "organizational_unit": "admins"}, "db1", ["db1"])
    certificate = x509.load_pem_x509_certificate(issue(admin).encode())
    assert certificate.subject.rfc4514_string() == "CN=dbkeep,OU=admins"
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_key_that_is_not_the_authoritys_cannot_sign() -> None:
    assert is_authority_of(AUTHORITY_KEY, AUTHORITY)
    with pytest.raises(UsageError, match="does not belong to"):
        sign(new_request(KEY, "db1"), SERVER, private_key=new_private_key(), authority=AUTHORITY)


def test_a_strict_client_accepts_the_server_by_every_name_and_by_no_other(tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_text(KEY + issue())
    for name in SERVER.names:
        handshake(tmp_path / "both.pem", name)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(tmp_path / "both.pem", "db2")


def handshake(pem: Path, name: str) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cadata=AUTHORITY)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                continue
