"""Every control has a breakage, in the daily run or beside the stores. Asks no host."""

from __future__ import annotations

from pathlib import Path

from dbkeep.checks.control import AREAS
from dbkeep.checks.run import list_controls
from dbkeep.environment import Environment, Host, checkout

from . import breakages

# Broken in a test of their own, which asserts on the finding.
ELSEWHERE = {
    "ENV-01": "test_controls_can_fail.py",
    "ENV-02": "test_controls_can_fail.py",
    "ENV-03": "test_controls_can_fail.py",
    "MG-REP-03": "test_growth.py",
    "MG-REP-04": "test_growth.py",
}

# Nothing breaks these on a host: the lab's machine, packages or libraries would have to be others, or the server would
# answer nothing else that is asked meanwhile. MG-VER-01 fails in every lab, and is waived there.
UNBROKEN = {
    *("OS-15", "OS-22", "PG-BAK-01", "PG-NET-01", "PG-TLS-02", "PG-TLS-05", "PG-VER-05", "MG-AUTH-01", "MG-REP-01"),
    *("MG-TLS-02", "MG-VER-01", "RD-MOD-01", "RD-TLS-01"),
}


def test_every_control_has_a_breakage(tmp_path: Path) -> None:
    groups = frozenset(group for area in AREAS.values() for group in area)
    host = Host("db1", "198.18.255.1", "ops", 22, None, (), groups, {})
    controls = list_controls(Environment("test", tmp_path, (host,), {}, {}), checkout() / "checks").keys()
    broken = {control for one in (*breakages.ALL, *breakages.STORES) for control in one.controls}
    assert broken <= controls
    assert controls - broken == UNBROKEN | ELSEWHERE.keys()
    folder = Path(__file__).parent
    assert all(f'"{control}"' in (folder / name).read_text(encoding="utf-8") for control, name in ELSEWHERE.items())
