"""P60 and P61: functions are nobody's to change, and what they answer one user is not kept for the next."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from dbkeep.postgresql import statements
from dbkeep.postgresql.prove.probe import probe
from dbkeep.postgresql.prove.world import World
from dbkeep.prove.probe import Finding, require

API = "app_api"


@probe(
    "P60", "No role changes a function", area="write", sources=("PostgreSQL manual: ALTER FUNCTION", "STIG SV-261916"),
)  # fmt: skip
def changing(world: World) -> Iterator[Finding]:
    for role in world.login_roles:
        for function in world.declared.functions:
            alter = sql.SQL("ALTER FUNCTION {} COST 100").format(statements.qualified(function.name))
            tried = world.attempt(role, alter)
            if not tried.is_denied:
                yield Finding(role, function.name, f"can be altered: {tried}")


@probe(
    "P61", "A prepared call answers each user anew", area="context",
    sources=("PostgreSQL manual 38.7 Function Volatility Categories", "pgrls SEC046"),
)  # fmt: skip
def prepared_calls(world: World) -> Iterator[Finding]:
    """ben may know of carl, who blocks anna. A plan that holds ben's answer as a constant tells it to anna."""
    carl = world.people["carl"]
    for name, argument, hidden in (("chat.can_see", carl.id, False), ("chat.find_user", carl.username, None)):
        with world.connect(API) as connection:
            connection.execute("SET plan_cache_mode = force_generic_plan")
            prepare = sql.SQL("PREPARE probe AS SELECT {}({})")
            answers = {}
            with world.acting_as(connection, world.people["ben"]):
                connection.execute(prepare.format(statements.qualified(name), argument))
                answers["ben"] = connection.execute("EXECUTE probe").fetchone()
            with world.acting_as(connection, world.people["anna"]):
                answers["anna"] = connection.execute("EXECUTE probe").fetchone()
        require(answers["ben"] not in ((False,), (None,)), f"{name} does not tell ben of carl")
        if answers["anna"] != (hidden,):
            yield Finding(API, name, "tells anna what it told ben in the same session")
