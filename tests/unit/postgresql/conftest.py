"""A live state that is as declared, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dbkeep.plan import Change
from dbkeep.postgresql import read_declared, scram
from dbkeep.postgresql.diff import Normal, diff
from dbkeep.postgresql.inspect import Grant, Live, LiveFunction, LivePolicy, LiveRelation, LiveRole, Membership
from dbkeep.postgresql.inspect.others import LiveExtension, Others
from dbkeep.postgresql.models import Declared, Grants
from dbkeep.postgresql.shape import Recorded
from dbkeep.postgresql.shape.tables import Tables

DECLARED = read_declared(Path(__file__).parents[3])
SECRETS = {name: f"secret of {name}" for name, role in DECLARED.roles.items() if role.login}
NORMAL = Normal(
    policies={
        (policy.table, policy.name): LivePolicy(policy.permissive, policy.command, policy.roles, policy.clauses, None)
        for policy in DECLARED.policies
    },
    functions={function.name: ("", function.sql) for function in DECLARED.functions},
    views={view.name: view.query for view in DECLARED.views},
)


PREDEFINED = frozenset({"pg_monitor", "pg_read_all_data"})


def _grants(role: str, grants: Grants) -> set[Grant]:
    found = {Grant("DATABASE", "", "chat", "", privilege, role) for privilege in grants.database}
    found |= {Grant("SCHEMA", "", schema, "", usage, role) for schema, all_ in grants.schemas.items() for usage in all_}
    for relation, allowed in grants.relations.items():
        schema, name = relation.split(".")
        for privilege, columns in allowed.items():
            if columns == "all":
                found.add(Grant("TABLE", schema, name, "", privilege, role))
            else:
                found |= {Grant("COLUMN", schema, name, column, privilege, role) for column in columns}
    found |= {Grant("LANGUAGE", "", language, "", "USAGE", role) for language in grants.languages}
    functions = (name.split(".") for name in grants.functions)
    return found | {Grant("FUNCTION", schema, name, "", "EXECUTE", role) for schema, name in functions}


def _columns(declared: Declared) -> dict[str, frozenset[str]]:
    """The columns that grants name."""
    found: dict[str, frozenset[str]] = {}
    for role in declared.roles.values():
        for relation, allowed in role.grants.relations.items():
            named = {column for columns in allowed.values() if columns != "all" for column in columns}
            found[relation] = found.get(relation, frozenset()) | named
    return found


def _as_declared(declared: Declared) -> Live:
    system = {name for role in declared.roles.values() for name in role.grants.functions if name.startswith("pg_")}
    owner, definer = declared.scope.owner, declared.scope.definer
    return Live(
        version=170000,
        database_owner=owner,
        roles={
            name: LiveRole(
                login=role.login, inherit=role.inherit, bypass_row_security=role.bypass_row_security,
                connection_limit=role.connection_limit,
                verifier=scram.verifier(SECRETS[name], iterations=1) if role.login else None,
            )
            for name, role in declared.roles.items()
        },
        predefined_roles=PREDEFINED,
        memberships=frozenset(
            Membership(group, name, inherit=role.inherit)
            for name, role in declared.roles.items() for group in role.member_of
        ),
        settings={
            (name, "", key): value for name, role in declared.roles.items() for key, value in role.settings.items()
        },
        schemas=dict.fromkeys(declared.scope.managed_schemas, owner),
        relations={
            **{table: LiveRelation("r", owner, True, True) for table in declared.tables},
            **{view.name: LiveRelation("v", definer, definition=view.query) for view in declared.views},
        },
        policies=dict(NORMAL.policies),
        functions=(
            *(LiveFunction(f.name, "", definer if f.security_definer else owner, definition=f.sql)
              for f in declared.functions),
            *(LiveFunction(name, "", "postgres", managed=False) for name in system),
        ),
        grants=frozenset[Grant]().union(*(_grants(name, role.grants) for name, role in declared.roles.items())),
        columns=_columns(declared),
        others=Others(
            extensions={name: LiveExtension("1.0", schema, "1.0") for name, schema in declared.scope.extensions.items()}
        ),
        migrations={migration.id: migration.digest for migration in declared.migrations},
        tables=Tables(recorded=Recorded(declared.migrations[-1].id, 170000, {})),
    )  # fmt: skip


LIVE = _as_declared(DECLARED)
# No database, and of a server's own functions those that roles are granted.
EMPTY = Live(
    170000,
    None,
    predefined_roles=PREDEFINED,
    functions=tuple(function for function in LIVE.functions if not function.managed),
    others=LIVE.others,
)


@dataclass(frozen=True)
class Converged:
    """`live` is as `declared`; `empty` is a server on which nothing is yet."""

    declared: Declared
    live: Live
    empty: Live
    normal: Normal
    secrets: dict[str, str]


@pytest.fixture(scope="session")
def converged() -> Converged:
    return Converged(DECLARED, LIVE, EMPTY, NORMAL, SECRETS)


@pytest.fixture
def changes(converged: Converged) -> Callable[[Live], list[Change]]:
    return lambda live: diff(converged.declared, live, converged.normal, converged.secrets)
