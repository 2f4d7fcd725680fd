"""What the auth routes take and give."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from chat_api.text import Text, storable

# One @, something on both sides, no space or control character; whether it exists only a message to it can tell.
_ADDRESS = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]{1,253}")


def _address(text: str) -> str:
    # RFC 5321, 4.5.3.1, counts octets.
    if not _ADDRESS.fullmatch(text) or len(text.encode("utf-8")) > 254:
        raise ValueError("not an email address")
    return text


def _password(secret: SecretStr) -> SecretStr:
    storable(secret.get_secret_value())
    return secret


Email = Annotated[Text, StringConstraints(max_length=254, strip_whitespace=True), AfterValidator(_address)]
Username = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{2,49}$")]
Password = Annotated[SecretStr, Field(min_length=12, max_length=128), AfterValidator(_password)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Registration(Request):
    username: Username
    email: Email
    password: Password


class Registered(BaseModel):
    id: UUID
    username: str


class Login(Request):
    """`login` is the username or the email address."""

    login: Annotated[Text, StringConstraints(min_length=1, max_length=254, strip_whitespace=True)]
    password: Annotated[SecretStr, Field(min_length=1, max_length=128), AfterValidator(_password)]


class Refresh(Request):
    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=200)]


class Tokens(BaseModel):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name (RFC 6750)
    expires_in: int
    refresh_token: str
