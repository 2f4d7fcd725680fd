"""Does a server take these settings? A throw-away one of the same program is started with them.

CONFIG SET would tell of the dynamic ones only, one after the other while others are in place already; a bad static one
would keep the instance from starting again.
"""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.redis.declared import HOST_DIRECTIVES
from dbkeep.redis.diff.settings import Rejection
from dbkeep.redis.statements import read_configuration
from dbkeep.sandbox import redis as sandbox
from dbkeep.settings import RedisServer, RedisSettings

TLS_FILES = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
# In the server's words: a setting that it quotes, or what OpenSSL did not take.
_QUOTED = re.compile(r">>> '(?P<setting>\S+).*?': (?P<reason>.*?); see ")
_OF_TLS = re.compile(
    r"# (?P<reason>(Failed to configure |Invalid tls-)(?P<setting>ciphersuites|ciphers|protocols).*?): \d+:"
)


def reject(host: RedisSettings, settings: Mapping[str, str]) -> Rejection | None:
    """Return the first of `settings` that a server like the host's does not start with, or None when it starts.

    Raises UsageError when the program is not installed.
    """
    own = {name: value for name, value in settings.items() if name not in HOST_DIRECTIVES | {"logfile"}}
    program = sandbox.find_program(host.server, host.command)
    with tempfile.TemporaryDirectory(prefix="dbkeep-") as folder:
        Path(folder).chmod(0o711)
        try:
            with sandbox.start(Path(folder), {"trial": own}, tls=_tls(settings), program=program):
                return None
        except DbkeepError as error:
            return _rejection(str(error))


def _rejection(said: str) -> Rejection:
    if found := _QUOTED.search(said):
        return Rejection(found["setting"], found["reason"])
    if found := _OF_TLS.search(said):
        return Rejection(f"tls-{found['setting']}", found["reason"])
    return Rejection("start", said.partition("; see ")[0])


def try_file(server: RedisServer, path: Path) -> None:
    """Raise UsageError when the installed `server` does not start with the settings of a configuration file."""
    settings = read_configuration(path.read_text(encoding="utf-8"))
    found = reject(RedisSettings(server=server, instances={}, memory_bytes=0), settings)
    if found:
        line = f"{found.setting} {settings.get(found.setting, '')}"
        raise UsageError(f"`{line}`: {server} does not take it: {found.reason}; correct redis/instances.yml")


def _tls(settings: Mapping[str, str]) -> dict[str, sandbox.TLS]:
    """Serve TLS on a free port with the host's files, where it has them: only then does a server read tls-ciphers."""
    if not all(name in settings for name in TLS_FILES):
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"trial": sandbox.TLS(port, *(Path(settings[name]) for name in TLS_FILES))}
