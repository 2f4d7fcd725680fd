"""How each part of a table is put back as its migration left it, at what risk, or why dbkeep must not do it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from dbkeep.plan import Risk
from dbkeep.postgresql.shape import Key, Part
from dbkeep.postgresql.statements import Statement, qualified, written

# What runs CONCURRENTLY waits for the transactions before it and stands in nobody's way.
PATIENT, AGAIN = sql.SQL("SET lock_timeout = '30min'"), sql.SQL("RESET lock_timeout")
ENABLE = {"O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
# NOT NULL is proved by a validated check first, so that the ACCESS EXCLUSIVE lock is short (manual, ALTER TABLE).
PROOF = "dbkeep_not_null"


@dataclass(frozen=True, slots=True)
class Mend:
    summary: str
    statements: tuple[Statement, ...] = ()
    risk: Risk = Risk.LOCKING
    transaction: bool = True
    refused: str | None = None


def remove(table: str, key: Key) -> Mend:
    """Remove what no migration made."""
    kind, name = key
    summary, quoted = "drop: not declared", sql.Identifier(name)
    if kind == "index":
        return Mend(summary, _patiently(_drop_index(table, name)), Risk.SAFE, transaction=False)
    if kind == "column":
        return Mend(summary, (_alter(table, sql.SQL("DROP COLUMN {}").format(quoted)),), Risk.DESTRUCTIVE)
    if kind == "constraint":
        return Mend(summary, (_alter(table, sql.SQL("DROP CONSTRAINT {}").format(quoted)),))
    drop = sql.SQL("DROP {} {} ON {}").format(sql.SQL(kind.upper()), quoted, qualified(table))
    return Mend(summary, (drop,))


def table(name: str, _: str, before: Part | None, after: Part) -> Mend:
    """Storage parameters and persistence."""
    have, wanted = before.structure if before else {}, after.structure
    if have["kind"] != wanted["kind"]:
        return Mend("other kind of table", refused="a partitioned table and a plain one are no mend of each other")
    run: list[Statement] = []
    risk = Risk.SAFE
    if have["options"] != wanted["options"]:
        strange = [option.split("=")[0] for option in have["options"] if option not in wanted["options"]]
        if strange:
            run.append(_alter(name, sql.SQL("RESET ({})").format(written(", ".join(strange)))))
        if wanted["options"]:
            run.append(_alter(name, sql.SQL("SET ({})").format(written(", ".join(wanted["options"])))))
    if have["persistence"] != wanted["persistence"]:
        run.append(_alter(name, sql.SQL("SET LOGGED" if wanted["persistence"] == "p" else "SET UNLOGGED")))
        risk = Risk.REWRITING
    summary = "set storage parameters" if risk is Risk.SAFE else "set persistence"
    for key, child, parent in (("parents", name, None), ("children", None, name)):
        lost = [other for other in wanted[key] if other not in have[key]]
        if lost:
            return Mend(f"lost {key}", refused=f"no longer inherits as migrations made it ({lost[0]}): mend it by hand")
        for other in (other for other in have[key] if other not in wanted[key]):
            run.append(_alter(child or other, sql.SQL("NO INHERIT {}").format(qualified(parent or other))))
            summary, risk = "end inheritance", max(risk, Risk.LOCKING, key=list(Risk).index)
    return Mend(summary, tuple(run), risk)


def column(table: str, name: str, before: Part | None, after: Part) -> Mend:
    """Default and NOT NULL are mended; a type, or a column that is gone, is not."""
    wanted, default = after.structure, after.printed["default"]
    spelled = _spelled(after)
    if before is None:
        return Mend(
            "missing", refused=f"a migration made it and its data is gone: restore it from a backup, as {spelled}"
        )
    have = before.structure
    differing = [key for key in ("type", "collation", "generated", "identity") if have[key] != wanted[key]]
    if differing:
        return Mend(
            f"other {', '.join(differing)}",
            refused=f"is {_spelled(before)}, migrations made {spelled}: change it back by hand with ALTER TABLE",
        )
    if wanted["generated"] and default != before.printed["default"]:
        return Mend("other expression", refused=f"is {_spelled(before)}, migrations made {spelled}: change it by hand")
    at = sql.SQL("ALTER COLUMN {} ").format(sql.Identifier(name))
    run: list[Statement] = []
    if default != before.printed["default"]:
        run.append(_alter(table, at + (written(f"SET DEFAULT {default}") if default else sql.SQL("DROP DEFAULT"))))
    if have["not_null"] and not wanted["not_null"]:
        run.append(_alter(table, at + sql.SQL("DROP NOT NULL")))
    if wanted["not_null"] and not have["not_null"]:
        check = sql.SQL("ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID")
        run += [
            _alter(table, check.format(sql.Identifier(PROOF), sql.Identifier(name))),
            _validate(table, PROOF),
            _alter(table, at + sql.SQL("SET NOT NULL")),
            _alter(table, sql.SQL("DROP CONSTRAINT {}").format(sql.Identifier(PROOF))),
        ]
    what = [part for part, differs in (
        ("default", default != before.printed["default"]), ("NOT NULL", have["not_null"] != wanted["not_null"]),
    ) if differs]  # fmt: skip
    return Mend(f"set {' and '.join(what)}", tuple(run), transaction=False)


def constraint(table: str, name: str, before: Part | None, after: Part) -> Mend:
    """A check or foreign key is added NOT VALID and validated; a key gets its index first."""
    quoted, definition = sql.Identifier(name), after.printed["definition"]
    if before and before.structure == {**after.structure, "validated": False} and after.structure["validated"]:
        return Mend("validate", (_validate(table, name),), Risk.SAFE)
    kind = after.structure["type"]
    if kind in "pu":
        if before:
            return Mend("differs", refused=f"is {before.printed['definition']}, migrations made {definition}: drop it")
        return Mend("create", _key(table, name, after), transaction=False)
    drop = [sql.SQL("DROP CONSTRAINT {}").format(quoted)] if before else []
    later = kind in "cf" and not definition.endswith("NOT VALID")
    add = sql.SQL("ADD CONSTRAINT {} ").format(quoted) + written(f"{definition}{' NOT VALID' if later else ''}")
    run = [_alter(table, sql.SQL(", ").join([*drop, add])), *([_validate(table, name)] if later else [])]
    return Mend("replace" if before else "create", tuple(run), transaction=False)


def index(table: str, name: str, before: Part | None, after: Part) -> Mend:
    build = _concurrently(after.printed["definition"])
    if before is None:
        return Mend("create", _patiently(build), Risk.SAFE, transaction=False)
    summary = "replace" if before.structure["valid"] else "build again: the build was interrupted"
    return Mend(summary, _patiently(_drop_index(table, name), build), Risk.SAFE, transaction=False)


def trigger(table: str, name: str, before: Part | None, after: Part) -> Mend:
    create = [written(after.printed["definition"]), *_state(table, "TRIGGER", name, after.structure["enabled"])]
    if before is None:
        return Mend("create", tuple(create))
    if before.printed == after.printed and before.structure == {
        **after.structure,
        "enabled": before.structure["enabled"],
    }:
        return Mend(
            "enable" if after.structure["enabled"] != "D" else "disable",
            _state(table, "TRIGGER", name, after.structure["enabled"], default=""),
        )
    drop = sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(name), qualified(table))
    return Mend("replace", (drop, *create))


def rule(table: str, name: str, before: Part | None, after: Part) -> Mend:
    replace = written(re.sub(r"^CREATE RULE", "CREATE OR REPLACE RULE", after.printed["definition"]))
    return Mend(
        "replace" if before else "create",
        (replace, *_state(table, "RULE", name, after.structure["enabled"], default="")),
    )


def _state(table: str, kind: str, name: str, enabled: str, default: str = "O") -> tuple[Statement, ...]:
    if enabled == default:
        return ()
    return (_alter(table, sql.SQL("{} {} {}").format(sql.SQL(ENABLE[enabled]), sql.SQL(kind), sql.Identifier(name))),)


def _key(table: str, name: str, part: Part) -> tuple[Statement, ...]:
    words = "PRIMARY KEY" if part.structure["type"] == "p" else "UNIQUE"
    deferral = {
        (True, False): " DEFERRABLE", (True, True): " DEFERRABLE INITIALLY DEFERRED",
    }.get((part.structure["deferrable"], part.structure["deferred"]), "")  # fmt: skip
    add = sql.SQL("ADD CONSTRAINT {} {} USING INDEX {}{}").format(
        sql.Identifier(name), sql.SQL(words), sql.Identifier(name), sql.SQL(deferral)
    )
    return (*_patiently(_concurrently(part.printed["index"])), _alter(table, add))


def _concurrently(definition: str) -> Statement:
    return written(re.sub(r"^CREATE (UNIQUE )?INDEX", r"CREATE \1INDEX CONCURRENTLY", definition))


def _drop_index(table: str, name: str) -> Statement:
    return sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(table.split(".", 1)[0], name))


def _patiently(*run: Statement) -> tuple[Statement, ...]:
    return (PATIENT, *run, AGAIN)


def _alter(table: str, action: sql.Composable) -> sql.Composed:
    return sql.SQL("ALTER TABLE {} {}").format(qualified(table), action)


def _validate(table: str, name: str) -> sql.Composed:
    return _alter(table, sql.SQL("VALIDATE CONSTRAINT {}").format(sql.Identifier(name)))


def _spelled(part: Part) -> str:
    """A column as CREATE TABLE spells it."""
    structure, default = part.structure, part.printed["default"]
    words = [structure["type"]]
    if structure["collation"]:
        words.append(f"COLLATE {structure['collation']}")
    if default:
        words.append(f"GENERATED ALWAYS AS ({default})" if structure["generated"] else f"DEFAULT {default}")
    if structure["identity"]:
        words.append(f"GENERATED {'ALWAYS' if structure['identity'] == 'a' else 'BY DEFAULT'} AS IDENTITY")
    if structure["not_null"]:
        words.append("NOT NULL")
    return " ".join(words)
