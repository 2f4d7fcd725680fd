"""Differences of the database, its schemas, migrations, tables, views and policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from psycopg import sql

from dbkeep.plan import Change, Risk
from dbkeep.postgresql import statements
from dbkeep.postgresql.change import MANAGED, change
from dbkeep.postgresql.connect import MAINTENANCE
from dbkeep.postgresql.inspect import Live, LivePolicy
from dbkeep.postgresql.migrations import locks
from dbkeep.postgresql.models import MIGRATION_TABLES, Declared, Migration, Policy, View
from dbkeep.postgresql.statements import RunMigration

# pg_class.relkind as DDL spells it.
RELATION_KINDS: Mapping[str, str] = {
    "r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "f": "FOREIGN TABLE",
}  # fmt: skip
DATABASE: Mapping[str, object] = {"is_template": False, "connection_limit": -1}


def database(declared: Declared, live: Live) -> Iterator[Change]:
    name, owner = declared.scope.database, declared.scope.owner
    if live.database_owner is None:
        yield change(
            "database", name, "create", *statements.create_database(name, owner),
            after={"owner": owner}, database=MAINTENANCE, transaction=False,
        )  # fmt: skip
    elif live.database_owner != owner:
        yield change(
            "database", name, "change owner", statements.set_owner("DATABASE", sql.Identifier(name), owner),
            before={"owner": live.database_owner}, after={"owner": owner}, database=MAINTENANCE,
        )  # fmt: skip

    attributes = {key: value for key, value in DATABASE.items() if live.database_attributes.get(key, value) != value}
    if attributes:
        yield change(
            "database", name, f"set {', '.join(attributes)}", statements.alter_database(name, attributes),
            before={key: live.database_attributes[key] for key in attributes}, after=attributes, database=MAINTENANCE,
        )  # fmt: skip


def schemas(declared: Declared, live: Live) -> Iterator[Change]:
    owner = declared.scope.owner
    for name in declared.scope.managed_schemas:
        have = live.schemas.get(name)
        if have is None:
            yield change(
                "schema",
                name,
                "create",
                statements.create_schema(name, owner),
                after={"owner": owner},
                database=MANAGED,
            )
        elif have != owner:
            yield change(
                "schema", name, "change owner", statements.set_owner("SCHEMA", sql.Identifier(name), owner),
                before={"owner": have}, after={"owner": owner}, database=MANAGED,
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Objects:
    """What is in the schemas. `normal_views` are the declared views as the server prints them."""

    declared: Declared
    live: Live
    normal_views: Mapping[str, str]

    def recreated(self) -> frozenset[str]:
        """Names of the views that a change creates, with their grants."""
        return frozenset(view.name for view in self.declared.views if not self._same_view(view.name))

    def migrations(self) -> Iterator[Change]:
        """Pending migrations; refused ones where history and files contradict each other."""
        applied = dict(self.live.migrations)
        for migration in self.declared.migrations:
            digest = applied.pop(migration.id, None)
            if digest is None:
                yield self._migration(migration, "run")
            elif digest != migration.digest:
                yield self._migration(
                    migration, "edited", before=digest,
                    refused=f"{migration.path} was edited after it was applied: restore it and add a new migration",
                )  # fmt: skip
        for name, digest in applied.items():
            yield Change(
                engine="postgresql", kind="migration", target=name, summary="not declared", statement="",
                before=digest, operation=None,
                refused="it was applied and its file is missing: use the checkout that holds it",
            )  # fmt: skip

    def _migration(
        self, migration: Migration, summary: str, before: str | None = None, refused: str | None = None
    ) -> Change:
        return Change(
            engine="postgresql", kind="migration", target=migration.id, summary=summary, statement=migration.sql,
            operation=RunMigration(
                migration, self.declared.scope.owner, self.declared.scope.protected_schemas
            ),
            before=before, after=migration.digest, risk=locks.risk(migration.sql, migration.path), refused=refused,
        )  # fmt: skip

    def tables(self) -> Iterator[Change]:
        """Declared tables that are gone, and owners of relations."""
        pending = any(migration.id not in self.live.migrations for migration in self.declared.migrations)
        for name in self.declared.tables:
            if name not in self.live.relations and not pending:
                yield change(
                    "table", name, "missing", database=MANAGED,
                    refused="every migration is applied and it is not there: restore it from a backup",
                )  # fmt: skip
        views = {view.name for view in self.declared.views if self._same_view(view.name)}
        for name, relation in sorted(self.live.relations.items()):
            if name not in self.declared.tables and name not in views and name not in MIGRATION_TABLES:
                continue
            owner = self.declared.scope.definer if name in views else self.declared.scope.owner
            if relation.owner != owner:
                kind = RELATION_KINDS[relation.kind]
                alter = statements.set_owner(kind, statements.qualified(name), owner)
                yield change(
                    kind.lower(), name, "change owner", alter,
                    before={"owner": relation.owner}, after={"owner": owner}, risk=Risk.LOCKING, database=MANAGED,
                )  # fmt: skip

    def row_security(self) -> Iterator[Change]:
        """Every table of a protected schema, declared or not, has row security enabled and forced."""
        found = {
            name for name, relation in self.live.relations.items()
            if relation.kind in "rp" and name.split(".")[0] in self.declared.scope.protected_schemas
        }  # fmt: skip
        for table in sorted(found.union(self.declared.tables)):
            have = self.live.relations.get(table)
            if have is None or not (have.row_security and have.forced):
                yield change(
                    "row security", table, "enable and force", statements.row_security(table),
                    before={"enabled": have.row_security, "forced": have.forced} if have else None,
                    after={"enabled": True, "forced": True}, risk=Risk.LOCKING, database=MANAGED,
                )  # fmt: skip

    def policies(self, normal: Mapping[tuple[str, str], LivePolicy]) -> Iterator[Change]:
        """Policies that are missing, differ as the server prints them, or are not declared."""
        declared = {(policy.table, policy.name): policy for policy in self.declared.policies}
        for key, policy in declared.items():
            have, wanted = self.live.policies.get(key), normal.get(key)
            if have is not None and have == wanted:
                continue
            table, name = key
            create = statements.create_policy(policy, statements.qualified(table))
            run = [create] if have is None else [statements.drop_policy(table, name), create]
            yield change(
                "policy", f"{table}: {name}", "create" if have is None else "replace", *run,
                before=_shown(have), after=_shown(wanted) or {"clauses": policy.clauses},
                risk=Risk.LOCKING, database=MANAGED, where=_where(policy),
            )  # fmt: skip
        for table, name in sorted(self.live.policies.keys() - declared.keys()):
            yield change(
                "policy", f"{table}: {name}", "drop: not declared", statements.drop_policy(table, name),
                before=_shown(self.live.policies[table, name]), risk=Risk.LOCKING, database=MANAGED,
            )  # fmt: skip

    def views(self) -> Iterator[Change]:
        for view in self.declared.views:
            if self._same_view(view.name):
                continue
            have = self.live.relations.get(view.name)
            readers = [
                name
                for name, role in self.declared.roles.items()
                if "SELECT" in role.grants.relations.get(view.name, {})
            ]
            create = statements.create_view(view, self.declared.scope.definer, readers, replace=have is not None)
            yield change(
                "view", view.name, "replace" if have else "create", *create, database=MANAGED, where=_where(view),
                risk=Risk.LOCKING if have else Risk.SAFE, before=have.definition if have else None,
                after=self.normal_views.get(view.name, view.query),
            )  # fmt: skip

    def _same_view(self, name: str) -> bool:
        have = self.live.relations.get(name)
        return have is not None and not have.options and have.definition == self.normal_views.get(name)

    def undeclared(self) -> Iterator[tuple[int, Change]]:
        """Relations in the managed schemas that nothing declares, with their numbers."""
        declared = {*self.declared.tables, *MIGRATION_TABLES, *(view.name for view in self.declared.views)}
        for name, relation in self.live.relations.items():
            if name in declared:
                continue
            kind = RELATION_KINDS[relation.kind]
            yield relation.number, change(
                kind.lower(), name, "drop: not declared", statements.drop(kind, statements.qualified(name)),
                before={"owner": relation.owner}, risk=Risk.DESTRUCTIVE, database=MANAGED,
            )  # fmt: skip


def _where(source: Policy | View) -> str:
    return f"{source.path}:{source.line}"


def _shown(policy: LivePolicy | None) -> dict[str, object] | None:
    return asdict(policy) if policy else None
