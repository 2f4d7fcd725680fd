"""What MongoDB should hold, as checked models: collections, views, indexes, roles, users, parameters."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dbkeep.declared import Model

DATABASE = "chat"
ALLOWED_MEMBERS = "clusterIpSourceAllowlist"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Index(Model):
    """An index and the query it serves. `keys` is a list because the order of the fields matters."""

    name: Name
    query: Text
    keys: Annotated[
        tuple[Annotated[dict[str, Literal[1, -1]], Field(min_length=1, max_length=1)], ...], Field(min_length=1)
    ]
    unique: bool = False
    sparse: bool = False
    expire_after_seconds: Seconds | None = None
    partial_filter: dict[str, Any] | None = None
    collation: dict[str, Any] | None = None

    @property
    def fields(self) -> tuple[tuple[str, int], ...]:
        return tuple(item for key in self.keys for item in key.items())


class Rule(Model):
    """What a schema cannot say: an aggregation expression that is true for every good document."""

    why: Text
    expr: dict[str, Any]


class Capped(Model):
    """A collection of fixed size; the server rounds the size up to 256 bytes, so only such sizes can be declared."""

    size_bytes: Annotated[int, Field(ge=4096, multiple_of=256)]
    documents: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class TimeSeries(Model):
    time_field: Text
    meta_field: Text | None = None
    granularity: Literal["seconds", "minutes", "hours"] = "seconds"


class Collection(Model):
    """A collection, the shape of its documents, and its indexes.

    The server takes no validator for a time series, so there the schema only names the fields for the reader.
    """

    name: Name
    json_schema: dict[str, Any]
    rules: tuple[Rule, ...] = ()
    indexes: tuple[Index, ...] = ()
    validation_level: Literal["strict", "moderate"] = "strict"
    validation_action: Literal["error", "warn"] = "error"
    collation: dict[str, Any] | None = None
    capped: Capped | None = None
    clustered: bool = False
    time_series: TimeSeries | None = None
    expire_after_seconds: Seconds | None = None
    pre_and_post_images: bool = False

    @property
    def type(self) -> str:
        return "timeseries" if self.time_series else "collection"

    @property
    def validator(self) -> dict[str, Any]:
        """The whole validator as the server stores it."""
        if self.time_series:
            return {}
        rules = {"$expr": {"$and": [rule.expr for rule in self.rules]}} if self.rules else {}
        return {"$jsonSchema": self.json_schema, **rules}

    @model_validator(mode="after")
    def _options_fit(self) -> Collection:
        if sum((self.capped is not None, self.clustered, self.time_series is not None)) > 1:
            raise ValueError("capped, clustered and time_series exclude each other")
        if self.time_series and (self.rules or self.indexes or self.pre_and_post_images):
            raise ValueError("a time series has no rules, indexes, or pre- and post-images")
        if self.expire_after_seconds is not None and not (self.time_series or self.clustered):
            raise ValueError("expire_after_seconds belongs to an index here, not to the collection")
        return self


class View(Model):
    name: Name
    view_on: Name
    pipeline: tuple[dict[str, Any], ...]
    collation: dict[str, Any] | None = None


class Privilege(Model):
    """Actions on one collection of the database, on a whole database, or on the cluster."""

    collection: Name | None = None
    database: Literal["admin", "chat"] | None = None
    cluster: Literal[True] | None = None
    actions: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_resource(self) -> Privilege:
        if sum(part is not None for part in (self.collection, self.database, self.cluster)) != 1:
            raise ValueError("name exactly one of collection, database and cluster")
        return self


class Role(Model):
    name: Name
    purpose: Text
    privileges: tuple[Privilege, ...] = ()
    roles: tuple[str, ...] = ()


class User(Model):
    """A user and where it may log on from (addresses or networks; empty: from anywhere the firewall lets through)."""

    name: Name
    roles: Annotated[tuple[Name, ...], Field(min_length=1)]
    client_source: tuple[str, ...] = ()


class Access(Model):
    """mongo/roles.yml."""

    roles: tuple[Role, ...]
    users: tuple[User, ...]


class Parameter(Model):
    """A server parameter that can be set while the server runs. What only counts at its start is in mongod.conf."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]+$")]
    value: bool | int | str | tuple[str, ...]
    why: Text


class Server(Model):
    """mongo/server.yml."""

    profiling_level: Literal[0, 1, 2] = 0
    parameters: tuple[Parameter, ...] = ()


class Migration(Model):
    """A file of mongo/migrations. `summary` is the first line of its docstring, `digest` the SHA-256 of its source."""

    id: str
    path: str
    summary: str
    source: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.source.encode()).hexdigest()


class Declared(Model):
    """Everything MongoDB should hold. Users and custom roles live in the database `admin`.

    `members` of the replica set ("host:port") come from the inventory, not from mongo/; without any, a plan leaves the
    set as it is.
    """

    database: str = DATABASE
    collections: tuple[Collection, ...]
    views: tuple[View, ...]
    roles: tuple[Role, ...]
    users: tuple[User, ...]
    server: Server = Server()
    migrations: tuple[Migration, ...] = ()
    members: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those of mongo/server.yml, and where the members log on to each other from (a server takes no names there).

        mongod starts with that list too, from /etc/default/mongod: a new member needs no restart of the others.
        """
        addresses = [member.rpartition(":")[0].strip("[]") for member in self.members]
        if not addresses or not all(map(_is_address, addresses)):
            return self.server.parameters
        allowed = tuple(dict.fromkeys(("127.0.0.1", *addresses)))
        why = "from where the members' own account, __system, may log on"
        return (*self.server.parameters, Parameter(name=ALLOWED_MEMBERS, value=allowed, why=why))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
