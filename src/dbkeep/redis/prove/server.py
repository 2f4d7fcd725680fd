"""Throw-away servers made from the declared state: every instance, over TLS, with real users."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import redis

from dbkeep import redis as engine
from dbkeep import tls
from dbkeep.checks.access import redis_client
from dbkeep.ports import free_ports
from dbkeep.redis.connect import connect
from dbkeep.redis.declared import Declared
from dbkeep.redis.prove.seed import Seed
from dbkeep.redis.prove.world import World
from dbkeep.redis.statements import directives
from dbkeep.sandbox import redis as sandbox
from dbkeep.sandbox.redis import Program
from dbkeep.secrets import new_password
from dbkeep.settings import RedisSettings

ADDRESS = "127.0.0.1"
MAXMEMORY = "maxmemory"
MEMORY_BYTES = 80 * 1024 * 1024
"""What declared shares of memory are shares of: small, so that an instance is full in a moment."""

Settings = Mapping[str, Mapping[str, str]]
"""Settings by instance and directive."""


class Server:
    """The instances as declared, but for `changed` settings. `settings` reaches them as the administrator."""

    def __init__(
        self,
        declared: Declared,
        settings: RedisSettings,
        changed: Settings,
        *,
        folder: Path,
        memory_bytes: int,
        program: Program,
    ) -> None:
        self.declared, self.settings, self.memory_bytes, self.program = declared, settings, memory_bytes, program
        self._changed, self._folder = changed, folder

    def renewed(self) -> AbstractContextManager[World]:
        # A port is taken while these servers run.
        changed = {name: {k: v for k, v in own.items() if k != "port"} for name, own in self._changed.items()}
        return start(self.declared, changed=changed, memory_bytes=self.memory_bytes, program=self.program)

    @contextmanager
    def ended(self, instance: str, how: signal.Signals) -> Iterator[redis.Redis]:
        """End an instance by a signal, and yield a connection to one that starts from the files that it left."""
        left = self.settings.instances[instance]
        with connect(instance, left) as client:
            number = int(client.info("server")["process_id"])
        process = os.pidfd_open(number)
        try:
            signal.pidfd_send_signal(process, how)
            os.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOWAIT)
        finally:
            os.close(process)
        wanted = _directives(_with(self.declared, self._changed), instance, self.memory_bytes, self.program)
        folder = self._folder / f"after-{how.name}"
        with (
            sandbox.start(
                folder, {instance: wanted}, data={instance: left.socket.parent}, program=self.program
            ) as settings,
            connect(instance, settings.instances[instance]) as client,
        ):
            yield client

    def directives(self, instance: str) -> dict[str, str]:
        return _directives(self.declared, instance, self.memory_bytes, self.program)


@contextmanager
def start(
    declared: Declared,
    *,
    changed: Settings | None = None,
    memory_bytes: int = MEMORY_BYTES,
    program: Program | None = None,
) -> Iterator[World]:
    """Start the instances as declared, but for `changed` settings; stop and remove them at the end.

    `program` is one of `dbkeep.sandbox.redis.find_programs`, in place of the Redis that is installed.

    Raises UsageError when there is no redis-server, DbkeepError when one does not start, ApplyError when the declared
    state cannot be applied.
    """
    changed, program = changed or {}, program or sandbox.find_program()
    names = declared.instances.instances
    folder = Path(tempfile.mkdtemp(prefix="dbkeep-prove-"))
    folder.chmod(0o711)  # the servers' own user must reach its folder inside
    passwords = {user: new_password() for user in engine.users(declared)}
    try:
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        files = _certificates(folder)
        held = _with(declared, changed)
        wanted = {name: _directives(held, name, memory_bytes, program) for name in names}
        encrypted = {name: sandbox.TLS(port, *files) for name, port in ports.items()}
        with sandbox.start(
            folder / "server", wanted, tls=encrypted, memory_bytes=memory_bytes, program=program
        ) as settings:
            engine.apply(settings, held, passwords)
            _limit_memory(settings, changed)
            server = Server(declared, settings, changed, folder=folder, memory_bytes=memory_bytes, program=program)

            def open_session(instance: str, user: str | None, **options: Any) -> redis.Redis:
                password = None if user is None else passwords[user]
                return redis_client(ports[instance], files[2], user, password, **options)

            with World(
                declared, Seed(), open_session, ports=ports, authority=files[2], passwords=passwords, throw_away=server
            ) as world:
                yield world
    finally:
        shutil.rmtree(folder)


def _with(declared: Declared, changed: Settings) -> Declared:
    """Return `declared` with what was changed, so that an apply leaves it alone."""
    instances = {
        name: instance.model_copy(update={"settings": {**instance.settings, **changed.get(name, {})}})
        for name, instance in declared.instances.instances.items()
    }
    return declared.model_copy(update={"instances": declared.instances.model_copy(update={"instances": instances})})


def _limit_memory(settings: RedisSettings, changed: Settings) -> None:
    """Set the one setting that nobody declares as such: it comes from a share of the memory."""
    for name, own in changed.items():
        if MAXMEMORY in own:
            with connect(name, settings.instances[name]) as client:
                client.config_set(MAXMEMORY, own[MAXMEMORY])


def _directives(declared: Declared, instance: str, memory_bytes: int, program: Program) -> dict[str, str]:
    return directives(declared, instance, program.version, {}, memory_bytes)


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority and a server's certificate; return the files of certificate, key and authority."""
    authority_key, key = tls.new_private_key(), tls.new_private_key()
    authority = tls.new_authority(authority_key, "dbkeep prove")
    subject = tls.Subject(common_name="localhost", names=("localhost", ADDRESS))
    certificate = tls.sign(tls.new_request(key, "localhost"), subject, private_key=authority_key, authority=authority)
    files = (folder / "server.crt", folder / "server.key", folder / "ca.crt")
    for path, text in zip(files, (certificate, key, authority), strict=True):
        path.touch(mode=0o600)
        path.write_text(text, encoding="ascii")
    return files
