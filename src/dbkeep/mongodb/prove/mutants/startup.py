"""Mutants of how the server is started: no logon, no encryption, code of clients, older proofs of passwords."""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant
from dbkeep.mongodb.prove.server import Startup

NO_CERTIFICATES = dict.fromkeys(
    ("--tlsCAFile", "--tlsCertificateKeyFile", "--tlsAllowConnectionsWithoutCertificates", "--tlsDisabledProtocols")
)
OPTIONS: dict[str, dict[str, str | None]] = {
    "authorization off": {"--keyFile": None},
    "authorization not asked for": {"--transitionToAuth": ""},
    "TLS off": {"--tlsMode": "disabled", **NO_CERTIFICATES},
    "TLS allowed": {"--tlsMode": "allowTLS"},
    "TLS preferred": {"--tlsMode": "preferTLS"},
    "invalid certificates taken": {"--tlsAllowInvalidCertificates": ""},
    "JavaScript on": {"--noscripting": None},
    "zlib offered": {"--networkMessageCompressors": "snappy,zstd,zlib"},
}
PARAMETERS = {
    "localhost exception open": {"enableLocalhostAuthBypass": "true"},
    "SCRAM-SHA-1 enabled": {"authenticationMechanisms": "SCRAM-SHA-1,SCRAM-SHA-256,MONGODB-X509"},
    "test commands on": {"enableTestCommands": "1"},
}


def startup(_: Ground) -> Iterator[Mutant]:
    for name, options in OPTIONS.items():
        yield Mutant(name, f"startup: {name}", startup=Startup(options=options))
    # What Debian's OpenSSL would not take part in by itself.
    old = Startup({"--tlsDisabledProtocols": "none"}, {"opensslCipherConfig": "ALL:@SECLEVEL=0"})
    yield Mutant("TLS 1.1 and 1.0 offered", "startup: TLS 1.1 and 1.0 offered", startup=old)
    for name, parameters in PARAMETERS.items():
        yield Mutant(name, f"startup: {name}", startup=Startup(parameters=parameters))
