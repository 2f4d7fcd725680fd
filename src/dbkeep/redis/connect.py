"""Connections to the instances of this host, over their local sockets as `admin`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dbkeep.errors import DbkeepError, UsageError
from dbkeep.settings import RedisInstance

CONNECT_SECONDS = 5
ANSWER_SECONDS = 60


@contextmanager
def connect(name: str, instance: RedisInstance, new_password: str | None = None) -> Iterator[redis.Redis]:
    """Yield a connection to the instance `name`, logged on as its administrator.

    The password is the one in the instance's password file; `new_password`, which the vault holds, is tried when the
    server refuses that one, because an apply may have stopped between file and server.

    Raises UsageError when the password file is not readable, DbkeepError when the server does not answer, is still
    loading or refuses both passwords; errors of the server inside the block become DbkeepError too.
    """
    client = _logged_on(name, instance, new_password)
    try:
        with errors_as_lines(name, instance):
            yield client
    finally:
        client.close()


def _logged_on(name: str, instance: RedisInstance, new_password: str | None) -> redis.Redis:
    refused = None
    for password in _passwords(instance, new_password):
        client = redis.Redis(
            unix_socket_path=str(instance.socket),
            username=instance.user,
            password=password,
            protocol=2,
            decode_responses=True,
            encoding_errors="backslashreplace",
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # two round trips to tell the server the driver's version
        )
        with errors_as_lines(name, instance):
            try:
                client.ping()
            except redis.AuthenticationError as error:
                client.close()
                refused = error
                continue
            except redis.RedisError:
                client.close()
                raise
            return client
    raise DbkeepError(
        f"redis {name}: {instance.socket}: {instance.user} is refused: {refused}; "
        f"{instance.password_file} does not hold the server's password: put it back, or remove "
        f"{instance.acl_file or 'the ACL file'}, run playbooks/site.yml, restart the instance and apply"
    )


def _passwords(instance: RedisInstance, new_password: str | None) -> list[str | None]:
    if instance.password_file is None:
        return [None] if new_password is None else [new_password]
    try:
        current = instance.password_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(
            f"{instance.password_file}: cannot be read: {error.strerror}; run as root, or run playbooks/site.yml"
        ) from None
    return [current] if new_password in (None, current) else [current, new_password]


@contextmanager
def errors_as_lines(name: str, instance: RedisInstance) -> Iterator[None]:
    """Turn the driver's errors into DbkeepError lines that name the instance."""
    where = f"redis {name}: {instance.socket}"
    unit = (instance.unit or f"redis-server@{name}").removesuffix(".service")
    try:
        yield
    except redis.exceptions.BusyLoadingError:
        raise DbkeepError(f"{where}: still loads its data; try again when it is done") from None
    except redis.TimeoutError as error:
        raise DbkeepError(f"{where}: no answer: {error}; see journalctl -u {unit}") from None
    except redis.ConnectionError as error:
        raise DbkeepError(f"{where}: {error}; is {unit} running?") from None
    except redis.RedisError as error:
        raise DbkeepError(f"{where}: {error}") from None
