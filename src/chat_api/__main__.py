"""`python -m chat_api`: serve the API over TLS until SIGTERM, then let requests in flight end."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import sys
from contextlib import suppress

import uvicorn

from chat_api import configuration
from chat_api.app import create_app

# Longer than any statement may run. Idle TLS clients do not answer the close, so it also ends the wait for them.
SHUTDOWN_SECONDS = 6
CONCURRENT_REQUESTS = 500
FIRST_PASSED = 3
"""The descriptor of the first socket that systemd passes (sd_listen_fds(3))."""

HEADERS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Strict-Transport-Security", "max-age=31536000"),
]


def main() -> int:
    """Serve until stopped; returns 1 if it cannot start, 2, with one line, for wrong settings or credentials."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings, credentials = configuration.read()
        app = create_app(settings, credentials)
        context = _tls(credentials)
    except configuration.ConfigurationError as error:
        sys.stderr.write(f"chat_api: {error}\n")
        return 2
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.listen_address,
            port=settings.listen_port,
            ssl_context_factory=lambda _config, _default: context,
            # chat_api.requests logs what happened without query strings.
            access_log=False,
            log_config=None,
            server_header=False,
            # Who asks is the peer of the connection: the rate limits must not believe a header.
            proxy_headers=False,
            headers=HEADERS,
            limit_concurrency=CONCURRENT_REQUESTS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
    with suppress(KeyboardInterrupt):
        server.run(sockets=_passed_sockets())
    return 0 if server.started else 1


def _passed_sockets() -> list[socket.socket] | None:
    """Return the listening sockets of the service manager, in which connections wait while this process restarts."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    return [socket.socket(fileno=FIRST_PASSED + number) for number in range(int(os.environ["LISTEN_FDS"]))]


def _tls(credentials: configuration.Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    try:
        context.load_cert_chain(credentials.tls_certificate, credentials.tls_key)
    except ssl.SSLError:
        raise configuration.ConfigurationError(
            f"{credentials.tls_certificate}: no certificate that fits tls_key; run the chat_api role"
        ) from None
    return context


if __name__ == "__main__":
    sys.exit(main())
