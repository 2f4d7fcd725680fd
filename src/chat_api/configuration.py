"""Where the API listens and finds its stores: environment variables for addresses, files for secrets.

The files lie in $CREDENTIALS_DIRECTORY, which systemd makes for LoadCredential= (systemd.exec(5)): readable by the
service only, on memory that is never swapped, and in no environment dump.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretBytes, SecretStr, ValidationError

from chat_api.key_ring import KeyRing


class ConfigurationError(Exception):
    """A setting or a credential is missing or unusable; the message is one line that names it."""


class Address(BaseModel):
    model_config = ConfigDict(frozen=True)

    host: str
    port: int


def addresses(hosts: str) -> list[Address]:
    """Return `host:port[,host:port...]` (IPv6 in brackets) as addresses; raises ValueError for what is not that."""
    found = []
    for part in hosts.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon or not host or not port.isdigit():
            raise ValueError(f"{part.strip()!r} is not host:port")
        found.append(Address(host=host.removeprefix("[").removesuffix("]"), port=int(port)))
    return found


def _one(hosts: str) -> Address:
    found = addresses(hosts)
    if len(found) != 1:
        raise ValueError(f"{hosts!r} is not one host:port")
    return found[0]


Addresses = Annotated[list[Address], BeforeValidator(addresses)]
OneAddress = Annotated[Address, BeforeValidator(_one)]


class Configuration(BaseModel):
    """The public part. Each field is the environment variable CHAT_API_<FIELD>; hosts are `host:port[,host:port...]`.

    `ca_file` is what every store's certificate must be signed by; there is no way to connect without TLS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen_address: str = "127.0.0.1"
    listen_port: int = Field(default=8443, ge=0, le=65535)
    ca_file: Path
    postgresql_hosts: Addresses = [Address(host="localhost", port=5432)]
    postgresql_database: str = "chat"
    postgresql_pool_size: int = Field(default=8, ge=1, le=100)
    mongodb_hosts: Addresses = [Address(host="localhost", port=27017)]
    mongodb_database: str = "chat"
    mongodb_replica_set: str = "chat"
    redis_state: OneAddress = Address(host="localhost", port=6379)
    redis_cache: OneAddress = Address(host="localhost", port=6380)
    redis_pool_size: int = Field(default=20, ge=1, le=1000)
    redis_timeout_seconds: float = Field(default=2.0, gt=0, le=30)


class Credentials(BaseModel):
    """The secret part, one file a field; pydantic's secret types and KeyRing keep the values out of every rendering.

    `tls_certificate` and `tls_key` are the files themselves: the TLS library reads them.
    """

    model_config = ConfigDict(frozen=True)

    tls_certificate: Path
    tls_key: Path

    postgresql_app_api: SecretStr
    postgresql_app_auth: SecretStr
    context_keys: KeyRing
    mongodb_chat_api: SecretStr
    redis_svc_api: SecretStr
    redis_svc_auth: SecretStr
    token_key: SecretBytes
    field_keys: KeyRing
    blind_index_keys: KeyRing


def read_configuration(environment: Mapping[str, str]) -> Configuration:
    """Return the CHAT_API_* variables as a checked configuration.

    Raises ConfigurationError naming the variable that is unknown or wrong.
    """
    prefix = "CHAT_API_"
    ours = [name for name in environment if name.startswith(prefix)]
    values = {name.removeprefix(prefix).lower(): environment[name] for name in ours}
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = prefix + str(first["loc"][0]).upper()
        raise ConfigurationError(f"{name}: {first['msg']}; correct it in the environment of the service") from None


def credentials_directory(environment: Mapping[str, str]) -> Path:
    """Return $CREDENTIALS_DIRECTORY.

    Raises ConfigurationError if it is not set.
    """
    try:
        return Path(environment["CREDENTIALS_DIRECTORY"])
    except KeyError:
        raise ConfigurationError("CREDENTIALS_DIRECTORY: not set; start the API with LoadCredential=") from None


def read_credentials(directory: Path) -> Credentials:
    """Return the secrets in `directory`, one file each.

    Raises ConfigurationError naming the file that is missing, empty or holds no 256-bit key.
    """
    return Credentials(
        tls_certificate=_file(directory / "tls_certificate"),
        tls_key=_file(directory / "tls_key"),
        postgresql_app_api=_password(directory / "postgresql_app_api"),
        postgresql_app_auth=_password(directory / "postgresql_app_auth"),
        context_keys=_key_ring(_text(directory / "context_key"), directory / "context_key"),
        mongodb_chat_api=_password(directory / "mongodb_chat_api"),
        redis_svc_api=_password(directory / "redis_svc_api"),
        redis_svc_auth=_password(directory / "redis_svc_auth"),
        token_key=_key(_text(directory / "token_key"), directory / "token_key"),
        field_keys=_key_ring(_text(directory / "field_key"), directory / "field_key"),
        blind_index_keys=_key_ring(_text(directory / "blind_index_key"), directory / "blind_index_key"),
    )


def _file(path: Path) -> Path:
    _text(path)
    return path


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {type(error).__name__}; run the chat_api role") from None
    if not text:
        raise ConfigurationError(f"{path}: is empty; run the chat_api role")
    return text


def _password(path: Path) -> SecretStr:
    return SecretStr(_text(path))


def _key(text: str, path: Path) -> SecretBytes:
    ring = _key_ring(text, path)
    if set(ring.keys) != {1}:
        raise ConfigurationError(f"{path}: is not one key; make it with `dbkeep init`")
    return SecretBytes(ring.keys[1])


def _key_ring(text: str, path: Path) -> KeyRing:
    try:
        return KeyRing.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}; make it with `dbkeep init`") from None


def read() -> tuple[Configuration, Credentials]:
    """Return configuration and credentials of this process.

    Raises ConfigurationError, one line, for whatever is missing or wrong.
    """
    return read_configuration(os.environ), read_credentials(credentials_directory(os.environ))
