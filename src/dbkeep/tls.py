"""The certificate authority of an environment and the certificates its services use.

A host makes its key and a request; the controller, which alone has the authority's key, decides the names and signs.
Certificates satisfy OpenSSL's strict X.509 checks (RFC 5280), which Python 3.13 clients turn on by default.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dbkeep.errors import UsageError

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397
RENEW_BEFORE = timedelta(days=30)
# A host's clock may be behind the controller's.
_BACKDATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Subject:
    """What one certificate says: its names, and whether it is for a client only.

    A server's certificate serves as a client certificate too, because replicas and cluster members present it to
    each other (MongoDB manual: "x.509 certificates ... both clientAuth and serverAuth").
    """

    common_name: str
    names: tuple[str, ...] = ()
    organizational_unit: str | None = None
    client: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any], host_name: str, host_names: Sequence[str]) -> Subject:
        """Return the subject of the certificate a role describes by `values`, on the host with these names.

        Only a server's certificate names the host; a client's is known by its common name.
        """
        client = bool(values.get("client"))
        return cls(
            common_name=values.get("common_name") or host_name,
            names=() if client else tuple(host_names),
            organizational_unit=values.get("organizational_unit"),
            client=client,
        )


def new_private_key() -> str:
    """Return a new P-256 private key as PEM (PKCS #8); all three engines and Python accept the curve."""
    return _key_pem(ec.generate_private_key(ec.SECP256R1()))


def new_authority(private_key: str, name: str, *, now: datetime | None = None) -> str:
    """Return the self-signed certificate (PEM) of the authority `name` for its private key (PEM)."""
    key = _load_key(private_key)
    now = now or datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = _key_usage(digital_signature=False, authority=True)
    certificate = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def is_authority_of(private_key: str, certificate: str) -> bool:
    """Say whether `certificate` (PEM) is the authority certificate of `private_key` (PEM)."""
    try:
        return x509.load_pem_x509_certificate(certificate.encode()).public_key() == _load_key(private_key).public_key()
    except ValueError:
        return False


def new_request(private_key: str, common_name: str) -> str:
    """Return a certificate request (PEM) that proves possession of `private_key` (PEM)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(_load_key(private_key), hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM).decode()


def sign(request: str, subject: Subject, *, private_key: str, authority: str, now: datetime | None = None) -> str:
    """Return the certificate (PEM) for the key in `request` (PEM), signed by `authority` with its `private_key`.

    Nothing but the public key is taken from the request: a host cannot ask for another host's name.
    Raises UsageError when the request is not signed by its own key, or the private key is not the authority's.
    """
    asked = x509.load_pem_x509_csr(request.encode())
    if not is_authority_of(private_key, authority):
        raise UsageError(
            "dbkeep_ca_certificate does not belong to dbkeep_secrets.ca_private_key; run `dbkeep init` again"
        )
    issuer = x509.load_pem_x509_certificate(authority.encode())
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    key = asked.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not asked.is_signature_valid:
        raise UsageError(f"the certificate request for {subject.common_name} is not signed by its own P-256 key")
    builder = (
        _builder(_name(subject), issuer.subject, key, now or datetime.now(UTC), CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, authority=False), critical=True)
        .add_extension(_extended_usage(subject), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if subject.names:
        builder = builder.add_extension(_alternative_names(subject), critical=False)
    certificate = builder.sign(_load_key(private_key), hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def is_signed_by(certificate: str, authorities: str) -> bool:
    """Say whether one of the certificates in `authorities` (PEM) signed `certificate` (PEM)."""
    held = x509.load_pem_x509_certificate(certificate.encode())
    return any(_is_issued_by(held, authority) for authority in x509.load_pem_x509_certificates(authorities.encode()))


def _is_issued_by(held: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        held.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def why_renew(
    certificate: str | None, subject: Subject, *, private_key: str, authority: str, now: datetime | None = None
) -> str | None:
    """Return why `certificate` (PEM) must be issued again for `subject` and `private_key`, or None when it is right."""
    if certificate is None:
        return "there is none"
    try:
        held = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return "it cannot be read"
    remaining = held.not_valid_after_utc - (now or datetime.now(UTC))
    return next(_differences(held, remaining, subject, private_key, authority), None)


def _differences(
    held: x509.Certificate, remaining: timedelta, subject: Subject, private_key: str, authority: str
) -> Iterator[str]:
    if held.public_key() != _load_key(private_key).public_key():
        yield "it is for another key"
    if not _is_issued_by(held, x509.load_pem_x509_certificate(authority.encode())):
        yield "another authority signed it"
    if remaining < RENEW_BEFORE:
        yield f"it ends on {held.not_valid_after_utc:%Y-%m-%d}"
    if held.subject != _name(subject) or _names_in(held) != set(_general_names(subject)):
        yield "its names changed"
    if held.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value != _extended_usage(subject):
        yield "its usage changed"


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(subject: Subject) -> x509.Name:
    # The unit first: RFC 2253, and so MongoDB's user name, then reads CN=...,OU=...
    parts = [
        (NameOID.ORGANIZATIONAL_UNIT_NAME, subject.organizational_unit),
        (NameOID.COMMON_NAME, subject.common_name),
    ]
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts if value])


def _general_names(subject: Subject) -> Sequence[x509.GeneralName]:
    return [_general_name(name) for name in dict.fromkeys(subject.names)]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _alternative_names(subject: Subject) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(_general_names(subject))


def _names_in(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _extended_usage(subject: Subject) -> x509.ExtendedKeyUsage:
    server = [] if subject.client else [ExtendedKeyUsageOID.SERVER_AUTH]
    return x509.ExtendedKeyUsage([*server, ExtendedKeyUsageOID.CLIENT_AUTH])


def _key_usage(*, digital_signature: bool, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(private_key: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
    except ValueError:
        raise UsageError("a private key is not PEM; restore it, or delete it to have a new one made") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError("a private key is not an elliptic-curve key; delete it to have a new one made")
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
