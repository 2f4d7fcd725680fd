"""The drill: a set restored into throw-away engines, compared with its manifest, torn down whatever happens."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from dbkeep.backup.fetch import fetched
from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.manifest import Count, Part
from dbkeep.backup.recovery_point import skew_seconds
from dbkeep.backup.run import LOCK
from dbkeep.backup.sealed_file import read_identities
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.backup.target import Target, choose
from dbkeep.errors import DbkeepError
from dbkeep.evidence import now, record, write


@dataclass(frozen=True, slots=True)
class Assertion:
    """One comparison of the copy with what is known of the source."""

    what: str
    expected: Any
    observed: Any
    holds: bool


@dataclass
class Proof:
    """What a drill of one engine found. `restored` is called when the copy first answers: that ends the RTO."""

    started: float = field(default_factory=time.monotonic)
    rto_seconds: float | None = None
    version: str = ""
    assertions: list[Assertion] = field(default_factory=list)

    def restored(self, version: str) -> None:
        self.rto_seconds = round(time.monotonic() - self.started, 3)
        self.version = version

    def equal(self, what: str, expected: Any, observed: Any) -> None:
        self.assertions.append(Assertion(what, expected, observed, expected == observed))

    def that(self, what: str, expected: Any, observed: Any, holds: bool) -> None:
        self.assertions.append(Assertion(what, expected, observed, holds))

    def counts(self, unit: str, expected: dict[str, Count], observed: dict[str, int]) -> None:
        """Assert that every name of the manifest has its count on the copy, and that there is no other name."""
        for name, count in expected.items():
            found = observed.get(name, 0)
            self.that(f"{unit} of {name}", str(count), found, count.holds(found))
        self.equal(f"nothing beside the manifest's {unit}", [], sorted(observed.keys() - expected.keys()))

    def digests(self, unit: str, expected: dict[str, str], observed: dict[str, str]) -> None:
        """Assert that what has a digest in the manifest has the same one on the copy."""
        for name, digest in expected.items():
            self.equal(f"digest of the {unit} of {name}", digest, observed.get(name))


class EngineDrill(Protocol):
    """What dbkeep.backup.drill_postgresql, drill_mongodb and drill_redis each offer."""

    def drill(self, host: BackupHost, part: Part, identity: str, folder: Path, proof: Proof) -> None: ...


def engine_drill(name: str) -> EngineDrill:
    return cast(EngineDrill, import_module(f"dbkeep.backup.drill_{name}"))


def drill(
    host: BackupHost,
    set_id: str,
    engines: Sequence[str] | None,
    identity: str,
    *,
    store: str = LOCAL,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Restore a set (or `newest`), of the host or a store, into throw-away engines on this host and compare.

    Returns the evidence, after all is torn down.

    A copy that cannot be restored or differs makes the result `failed`, with the reason in the evidence.
    Raises UsageError when there is no such set or the identity is none, BusyError while another drill runs.
    """
    read_identities(identity)
    wanted = host.chosen(tuple(engines or ()))
    found = choose(host, Target(set_id), wanted, store).engines
    parts = {engine: one.part for engine, one in found.items()}
    root = host.settings.drill_directory
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    chosen = next(iter(parts.values())).set_id
    started = now()
    results: dict[str, Any] = {}
    with (
        hold(root / LOCK, f"drill of set {chosen}"),
        fetched(host, store, found, progress) as source,
        hold(source.sets / chosen / LOCK, "drill", shared=True),
    ):
        remove_leftovers(root)
        for engine, part in parts.items():
            progress(f"{engine}: restoring set {chosen} into a throw-away server")
            results[engine] = _drill_engine(source, part, identity, root)
            progress(f"{engine}: {_verdict(results[engine])}")
    passed = all(result["passed"] for result in results.values())
    moments = [part.recovery_point.at for part in parts.values()]
    observed = {
        "set_id": chosen,
        "store": store,
        "engines": results,
        "skew_seconds": skew_seconds(moments),
        "rpo_seconds": round((started - min(moments)).total_seconds(), 3),
        "rto_seconds": round(sum(result["rto_seconds"] or 0 for result in results.values()), 3),
    }
    evidence = record("drill", started=started, passed=passed, observed=observed)
    write(evidence, host.settings.evidence)
    return evidence


def _drill_engine(host: BackupHost, part: Part, identity: str, root: Path) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix=f"{part.engine}-", dir=root))
    proof = Proof()
    error = None
    try:
        folder.chmod(0o711)
        engine_drill(part.engine).drill(host, part, identity, folder, proof)
        if not proof.assertions:
            error = "the drill asserted nothing"
    except DbkeepError as raised:
        error = str(raised)
    finally:
        shutil.rmtree(folder)
    return {
        "passed": error is None and all(assertion.holds for assertion in proof.assertions),
        "error": error,
        "recovery_point": part.recovery_point.at.isoformat(),
        "source_version": part.server_version,
        "copy_version": proof.version,
        "rto_seconds": proof.rto_seconds,
        "assertions": [asdict(assertion) for assertion in proof.assertions],
    }


def _verdict(result: dict[str, Any]) -> str:
    if result["error"]:
        return f"FAILED: {result['error']}"
    wrong = [a for a in result["assertions"] if not a["holds"]]
    if wrong:
        first = wrong[0]
        return f"FAILED: {first['what']}: expected {first['expected']}, observed {first['observed']}"
    return f"{len(result['assertions'])} assertions hold, answered after {result['rto_seconds']:.1f} s"


def remove_leftovers(root: Path) -> None:
    """Remove the copies of drills that were killed. The caller holds the drills' lock, so none of them is in use."""
    for folder in root.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
