"""P16 to P19: is every connection encrypted, to the right server, and by nobody's certificate but ours?"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.probes.authentication import ANYBODY
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import Finding, require
from dbkeep.sandbox import mongodb_security

# How long a connection that should fail is tried.
PATIENCE_MS = 1000


@probe("P16", "A connection without TLS is refused", area="transport", sources=("CIS MongoDB 7 4.3", "STIG SV-252139"))
def plaintext(world: World) -> Iterator[Finding]:
    require(_is_answered(world), "the server does not answer over TLS either")
    if _is_answered(world, tls=False, tlsCAFile=None):
        yield Finding(ANYBODY, "connection", "the server talks to a client without TLS")


@probe("P17", "TLS older than 1.2 is refused", area="transport", sources=("CIS MongoDB 7 4.1", "RFC 8996"))
def old_tls(world: World) -> Iterator[Finding]:
    best = world.tls_version(ssl.TLSVersion.MAXIMUM_SUPPORTED)
    require(best in {"TLSv1.2", "TLSv1.3"}, f"the server agrees to no TLS at all ({best})")
    old = world.tls_version(ssl.TLSVersion.TLSv1_1)
    if old is not None:
        yield Finding(ANYBODY, "connection", f"the server agrees to {old}")


@probe(
    "P18", "A certificate of another authority is refused, the client's by the server and the server's by the client",
    area="transport", sources=("STIG SV-252178", "MongoDB manual: TLS/SSL Configuration"),
)  # fmt: skip
def other_authorities(world: World) -> Iterator[Finding]:
    require(_is_answered(world), "the server does not answer over TLS")
    with tempfile.TemporaryDirectory(prefix="dbkeep-prove-") as folder:
        foreign = mongodb_security.issue(Path(folder))
        certificate = str(foreign.administrator_certificate)
        if _is_answered(world, tlsCAFile=str(foreign.ca_file)):
            yield Finding(ANYBODY, "connection", "the server's certificate is one of an authority made just now")
        if _is_answered(world, tlsCertificateKeyFile=certificate):
            yield Finding(ANYBODY, "connection", "the server takes a certificate of an authority made just now")
        if _is_answered(world, tlsCertificateKeyFile=certificate, authMechanism="MONGODB-X509"):
            yield Finding(ANYBODY, "logon", "gets in as the administrator with a certificate made just now")


@probe(
    "P19", "Messages are not compressed by zlib", area="transport", sources=("CVE-2025-14847",),
)  # fmt: skip
def compression(world: World) -> Iterator[Finding]:
    offered = world.attempt(None, "admin", {"hello": 1, "compression": ["zlib", "zstd", "snappy"]})
    require(offered.is_done, f"the server does not answer hello: {offered}")
    if "zlib" in (offered.reply or {}).get("compression", ()):
        yield Finding(ANYBODY, "hello", "the server agrees to zlib")


def _is_answered(world: World, **options: Any) -> bool:
    with world.connect(None, serverSelectionTimeoutMS=PATIENCE_MS, **options) as client:
        try:
            client.admin.command("connectionStatus" if "authMechanism" in options else "hello")
        except PyMongoError:
            return False
    return True
