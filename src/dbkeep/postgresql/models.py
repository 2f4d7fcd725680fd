"""The values that `sql/` is read into, and that travel to the host as JSON."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dbkeep.declared import Model
from dbkeep.postgresql.configuration import Configuration

Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
SettingName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$")]
QualifiedName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$")]
NamePattern = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*\*?$")]
# Where yoyo keeps its own tables and dbkeep the digests of applied migrations.
MIGRATION_SCHEMA = "migration"
MIGRATION_TABLES = tuple(
    f"{MIGRATION_SCHEMA}.{name}"
    for name in ("digest", "shape", "yoyo_lock", "_yoyo_log", "_yoyo_migration", "_yoyo_version")
)
# An object as pg_identify_object names it, such as "type chat.mood", "publication feed".
ObjectName = Annotated[str, Field(pattern=r"^[a-z-]+( [a-z-]+)* \S+.*$")]
Allowed = dict[Literal["SELECT", "INSERT", "UPDATE", "DELETE"], Literal["all"] | tuple[Name, ...]]
Command = Literal["ALL", "SELECT", "INSERT", "UPDATE", "DELETE"]


class ClosedToPublic(Model):
    """Objects outside the managed schemas whose default grants to PUBLIC are revoked. A name may end in `*`."""

    databases: tuple[Name, ...] = ()
    schemas: tuple[Name, ...] = ()
    functions: tuple[NamePattern, ...] = ()
    languages: tuple[Name, ...] = ()


Context = Literal["plain", "signed"]


class Scope(Model):
    """What is managed. `context` is the folder of sql/functions that also counts, if any (docs/decisions)."""

    database: Name
    owner: Name
    definer: Name
    schemas: tuple[Name, ...]
    protected_schemas: tuple[Name, ...]
    managed_roles: str
    context: Context | None = None
    closed_to_public: ClosedToPublic = ClosedToPublic()
    # Settings of the database for every role, and the extensions in it with the schema of each.
    settings: dict[SettingName, str] = Field(default={})
    extensions: dict[Name, Name] = Field(default={})
    # What migrations make besides tables and what goes with them: it must be there, owned by `owner`.
    other_objects: tuple[ObjectName, ...] = ()

    @property
    def managed_schemas(self) -> tuple[str, ...]:
        return (*self.schemas, MIGRATION_SCHEMA)

    @field_validator("managed_roles")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


class Grants(Model):
    """Privileges of one role. Privileges on a relation are on all of it or on the columns named."""

    database: tuple[Literal["CONNECT", "TEMPORARY", "CREATE"], ...] = ()
    schemas: dict[Name, tuple[Literal["USAGE", "CREATE"], ...]] = Field(default={})
    relations: dict[QualifiedName, Allowed] = Field(default={})
    functions: tuple[QualifiedName, ...] = ()
    sequences: dict[QualifiedName, tuple[Literal["USAGE", "SELECT", "UPDATE"], ...]] = Field(default={})
    types: tuple[QualifiedName, ...] = ()
    languages: tuple[Name, ...] = ()
    foreign_data_wrappers: tuple[Name, ...] = ()
    foreign_servers: tuple[Name, ...] = ()
    tablespaces: tuple[Name, ...] = ()
    parameters: dict[SettingName, tuple[Literal["SET", "ALTER SYSTEM"], ...]] = Field(default={})


class MemberOptions(Model):
    """Options of one membership, which PostgreSQL has since 16. `inherit` is the member's own unless it is given."""

    inherit: bool | None = None
    set: bool = True


class Role(Model):
    """One role. SUPERUSER, CREATEROLE, CREATEDB and REPLICATION cannot be declared: no role here has them."""

    comment: str
    login: bool = False
    inherit: bool = True
    bypass_row_security: bool = False
    connection_limit: Annotated[int, Field(ge=-1)] = -1
    member_of: dict[Name, MemberOptions] = Field(default={})
    settings: dict[SettingName, str] = Field(default={})
    grants: Grants = Grants()

    @field_validator("member_of", mode="before")
    @classmethod
    def _names_alone(cls, value: object) -> object:
        """A list of names is a membership in each without an option."""
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return {name: {} for name in value}
        return value


class Roles(Model):
    scope: Scope
    roles: dict[Name, Role]


class Migration(Model):
    """A forward SQL script and the one that takes it back. `digest` is the SHA-256 of the forward script."""

    id: str
    path: str
    sql: str
    rollback: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class Policy(Model):
    """A row-security policy. `clauses` is USING and WITH CHECK as written, on one line."""

    table: str
    name: str
    path: str
    line: int
    permissive: bool
    command: Command
    roles: tuple[str, ...]
    clauses: str


class Routine(Model):
    """A function; the file is named like it, so it has one signature."""

    name: str
    path: str
    line: int
    sql: str
    security_definer: bool
    trigger: bool


class View(Model):
    name: str
    path: str
    line: int
    query: str


class Declared(Model):
    """`grant_lines` maps a role and what it is given to a line of roles.yml.

    What it is given is a setting, a membership, or a privilege on something: "app_api chat.users".
    """

    scope: Scope
    roles: dict[str, Role]
    migrations: tuple[Migration, ...]
    tables: tuple[str, ...]
    policies: tuple[Policy, ...]
    functions: tuple[Routine, ...]
    views: tuple[View, ...]
    configuration: Configuration
    grant_lines: dict[str, int]

    def where_granted(self, role: str, target: str) -> str:
        """Return the file and line that give `role` the `target`, or something on it; '' when none does."""
        line = self.grant_lines.get(f"{role} {target}")
        return f"sql/roles.yml:{line}" if line else ""
