"""Is every key where it belongs, of its declared type, and gone in time? Asked of a sample; no name is shown."""

from typing import Any

from dbkeep.checks.access import INSTANCES
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe

WRITER = "find who writes the key: redis/keyspaces.yml names the owner of a prefix; "
DESIGN = "dbkeep design: every key has a TTL by keyspace"


def misfits(redis_facts: dict[str, Any], observe: Observe, problem: str) -> list[str]:
    """Record what was sampled and return a line for each prefix of which some keys have the problem."""
    lines = []
    for name in INSTANCES:
        keys = redis_facts["instances"][name]["keys"]
        observe(
            **{
                name: {
                    "sampled": keys["sampled"],
                    "all": keys["all"],
                    **{p: n[problem] for p, n in keys["prefixes"].items()},
                }
            }
        )
        lines += [f"{name}: {n[problem]} of {n['keys']} keys {p}" for p, n in keys["prefixes"].items() if n[problem]]
    return lines


@control(
    "RD-KEY-01",
    "Every key begins with a declared prefix",
    severity="medium",
    sources=(DESIGN, "Redis manual: Keyspace"),
    fix=WRITER + "declare the prefix there, or stop writing it and delete the keys",
)
def test_prefixes_are_declared(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = misfits(redis_facts, observe, "undeclared")
    assert not wrong, f"outside every declared prefix: {'; '.join(wrong)}"


@control(
    "RD-KEY-02",
    "Every key is on the instance of its keyspace",
    severity="high",
    sources=("Redis manual: Key eviction", "dbkeep design: eviction is per instance"),
    fix=WRITER + "point it at the instance declared there and delete the keys here",
)
def test_instance_is_the_declared_one(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = misfits(redis_facts, observe, "on_wrong_instance")
    assert not wrong, f"on the wrong instance: {'; '.join(wrong)}"


@control(
    "RD-PER-05",
    "Every key expires",
    severity="medium",
    sources=("Redis manual: EXPIRE", DESIGN),
    fix=WRITER + "set an expiry when writing, and delete what has none",
)
def test_keys_expire(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = misfits(redis_facts, observe, "without_expiry")
    assert not wrong, f"never expire: {'; '.join(wrong)}"


@control(
    "RD-KEY-03",
    "No key lives longer than its keyspace allows",
    severity="medium",
    sources=("Redis manual: EXPIRE", DESIGN),
    fix=WRITER + "keep its expiry within ttl_seconds",
)
def test_keys_expire_in_time(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = misfits(redis_facts, observe, "expire_too_late")
    assert not wrong, f"expire later than declared: {'; '.join(wrong)}"


@control(
    "RD-KEY-04",
    "Every key has a type of its keyspace",
    severity="medium",
    sources=("Redis manual: TYPE",),
    fix=WRITER + "declare the type there, or delete the keys: commands on another type fail (WRONGTYPE)",
)
def test_types_are_declared(redis_facts: dict[str, Any], observe: Observe) -> None:
    wrong = misfits(redis_facts, observe, "of_wrong_type")
    assert not wrong, f"of another type: {'; '.join(wrong)}"
