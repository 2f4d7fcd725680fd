"""Every kind of object on every server: broken by hand, the plan names it, apply mends it, the plan is empty."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from dbkeep.plan import Risk
from dbkeep.sandbox.redis import find_program, start

from .conftest import SERVERS, Site

OfServer = Callable[[str], Site]
SECRET = "never-shown-to-anybody"
# A module that does nothing; it needs no header of the server.
MODULE = """
int RedisModule_OnLoad(void **context, void **arguments, int count) {
    int (*get_api)(const char *, void *) = context[0];
    void (*describe)(void *, const char *, int, int);
    get_api("RedisModule_SetModuleAttribs", &describe);
    describe(context, "rogue", 1, 1);
    return 0;
}
"""


class Break(NamedTuple):
    name: str
    kind: str
    target: str
    commands: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()
    instance: str = "state"
    risk: str = "safe"
    says: str = ""


BREAKS = [Break(**case) for case in yaml.safe_load(Path(__file__).with_name("breaks.yml").read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", BREAKS, ids=[case.name for case in BREAKS])
@pytest.mark.parametrize("server", SERVERS)
def test_break_is_named_and_mended(server: str, case: Break, of_server: OfServer) -> None:
    site = of_server(server)
    site.run(case.instance, *case.commands)
    if case.lines:
        with site.file(case.instance).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in case.lines)
    planned = site.plan()
    made = site.apply()
    held = site.plan()
    if held:
        site.apply(allow_destructive=True)
    found = [c for c in planned if (c.kind, c.target.rpartition("/")[2], c.risk) == (case.kind, case.target, case.risk)]
    assert [change.summary for change in found if case.says in change.summary], planned
    assert (found[0] in held) == (case.risk == "destructive")
    assert (found[0] in made) != (found[0] in held)
    assert site.plan() == []
    assert SECRET not in repr([change.as_json() for change in planned])


@pytest.mark.parametrize("server", SERVERS)
def test_a_loaded_module_waits_for_a_restart(server: str, of_server: OfServer, tmp_path: Path) -> None:
    """Only a start loads one, since MODULE LOAD is off, and only a start without it is rid of it."""
    site = of_server(server)
    library = tmp_path / "s" / "state" / "rogue.so"
    library.parent.mkdir(parents=True)
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", "-w", "-o", str(library), "-xc", "-"]
    subprocess.run(command, input=MODULE, text=True, check=True)
    library.chmod(0o755)
    program = find_program(site.settings.server, site.settings.command)
    with start(tmp_path / "s", {"state": {"loadmodule": "./rogue.so"}, "cache": {}}, program=program) as started:
        other = Site(started, site.declared, site.passwords)
        (restart,) = (change for change in other.plan() if change.kind == "restart" and "rogue" in change.summary)
        assert restart.target == "state"
        assert "module rogue (./rogue.so) is loaded, not declared" in restart.summary
        assert restart.risk is Risk.LOCKING
        assert restart.waits_for is not None
        assert "redis_restart_allowed=true" in restart.waits_for
