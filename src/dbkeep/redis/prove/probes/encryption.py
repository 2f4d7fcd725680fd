"""P05 to P07: is every connection encrypted, well enough, and with strangers' certificates refused?"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dbkeep import tls
from dbkeep.checks.access import verifying
from dbkeep.prove.probe import Finding, require
from dbkeep.redis.prove.attempts import attempt, changed_settings
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.world import World

ANYBODY = "(anybody)"
ANY_CIPHER = "ALL:@SECLEVEL=0"
SECONDS = 5
SOURCES = ("Redis manual: TLS Support", "RFC 8996", "redis-baseline 56", "redis-baseline 58")


@probe("P05", "A connection without TLS gets no answer, on any port", area="encryption", sources=SOURCES)
def plaintext(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        with world.connect(instance, world.users(instance)[0]) as client:
            require(not attempt(client, "PING").lost, f"{instance} does not answer over TLS either")
        for port in {str(world.ports[instance]), *_plain_ports(world, instance)} - {"0"}:
            said = _said_in_clear(int(port))
            if said[:1] in (b"+", b"-", b"$"):
                yield Finding(ANYBODY, f"{instance} port {port}", f"answers in clear: {said[:40]!r}")
            elif port != str(world.ports[instance]) and not world.is_copy:
                yield Finding(ANYBODY, f"{instance} port {port}", "is declared to be closed")


def _plain_ports(world: World, instance: str) -> list[str]:
    _, port = world.auditor(instance).execute_command("CONFIG GET", "port")  # type: ignore[no-untyped-call]
    return [str(port)]


def _said_in_clear(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(64)
    except OSError:
        return b""


@probe("P06", "Old versions of TLS and ciphers that are not declared are refused", area="encryption", sources=SOURCES)
def old_versions(world: World) -> Iterator[Finding]:
    newest = ssl.TLSVersion.MAXIMUM_SUPPORTED
    declared = str(world.declared.instances.settings.get("tls-ciphers", "DEFAULT"))
    others = ":".join(sorted(_ciphers("ALL") - _ciphers(declared)))
    for instance in world.instances:
        best = world.agreed_tls(instance, at_most=newest)
        require(best in ("TLSv1.2", "TLSv1.3"), f"{instance} agrees to no TLS that is good enough: {best}")
        old = world.agreed_tls(instance, at_most=ssl.TLSVersion.TLSv1_1)
        if old is not None:
            yield Finding(ANYBODY, f"{instance} TLS", f"agrees to {old}")
        if world.is_copy:
            with changed_settings(world.admin(instance), {"tls-ciphers": ANY_CIPHER}):
                old = world.agreed_tls(instance, at_most=ssl.TLSVersion.TLSv1_1)
            if old is not None:
                yield Finding(ANYBODY, f"{instance} TLS", f"agrees to {old} where no cipher is in the way")
        weak = world.agreed_tls(instance, at_most=ssl.TLSVersion.TLSv1_2, ciphers=others)
        if weak is not None:
            yield Finding(ANYBODY, f"{instance} TLS", f"agrees to {weak} with a cipher that is not declared")


def _ciphers(text: str) -> set[str]:
    """Return the ciphers up to TLS 1.2; those of TLS 1.3 have a list of their own, which all are good enough."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(f"{text}:@SECLEVEL=0")
    return {str(cipher["name"]) for cipher in context.get_ciphers() if cipher["protocol"] != "TLSv1.3"}


@probe("P07", "A client's certificate of another authority is refused", area="encryption", sources=SOURCES)
def strangers(world: World) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="dbkeep-prove-") as name:
        file = _stranger(Path(name))
        for instance in world.instances:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(world.authority)
            context.load_cert_chain(file)
            require(_is_let_in(world.ports[instance], verifying(world.authority)), f"{instance}: nobody is let in")
            if _is_let_in(world.ports[instance], context):
                yield Finding(ANYBODY, f"{instance} TLS", "a certificate of another authority is let in")


def _stranger(folder: Path) -> Path:
    key = tls.new_private_key()
    file = folder / "stranger.pem"
    file.touch(mode=0o600)
    file.write_text(key + tls.new_authority(key, "a stranger"), encoding="ascii")
    return file


def _is_let_in(port: int, context: ssl.SSLContext) -> bool:
    """With TLS 1.3 a server refuses a certificate after the handshake, when the client first reads."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(b"PING\r\n")
            return bool(wrapped.recv(16))
    except OSError:
        return False
