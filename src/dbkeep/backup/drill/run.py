"""The drill: a set restored into throw-away engines, compared and attacked, torn down whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from dbkeep.backup.drill import application as drill_application
from dbkeep.backup.drill.claims import Claimed
from dbkeep.backup.drill.copy import Copy, Serving, serving
from dbkeep.backup.drill.proof import Proof
from dbkeep.backup.drill.refusals import refuse
from dbkeep.backup.job import Progress
from dbkeep.backup.lock import hold
from dbkeep.backup.manifest import Part
from dbkeep.backup.recovery_point import skew_seconds
from dbkeep.backup.restore.fetch import fetched
from dbkeep.backup.restore.references import as_json, compare_here
from dbkeep.backup.restore.target import Chosen, Target, choose
from dbkeep.backup.run import LOCK
from dbkeep.backup.sealed_file import read_identities
from dbkeep.backup.settings import LOCAL, BackupHost
from dbkeep.engines import NAMES
from dbkeep.evidence import now, record, write
from dbkeep.sandbox.authority import Authority


class EngineDrill(Protocol):
    """What dbkeep.backup.drill.postgresql, mongodb and redis each offer."""

    def copied(
        self, host: BackupHost, one: Chosen, identity: str, serving: Serving, proof: Proof
    ) -> AbstractContextManager[Copy]:
        """Start the copy, carried on to the point of `one` if it has one, and prove that it ends there."""

    def compare(self, host: BackupHost, part: Part, copy: Copy, proof: Proof) -> None:
        """Compare it with the manifest, which says what was there at the part's own point."""

    def inspect(self, host: BackupHost, copy: Copy, proof: Proof) -> None:
        """Ask what holds at any moment."""


class EngineReproof(Protocol):
    """What dbkeep.backup.drill.reprove_postgresql, reprove_mongodb and reprove_redis each offer."""

    def reprove(self, copy: Copy, claimed: Claimed, proof: Proof) -> bool: ...


def engine_drill(name: str) -> EngineDrill:
    return cast(EngineDrill, import_module(f"dbkeep.backup.drill.{name}"))


def engine_reproof(name: str) -> EngineReproof:
    return cast(EngineReproof, import_module(f"dbkeep.backup.drill.reprove_{name}"))


def drill(
    host: BackupHost,
    target: Target | str,
    engines: Sequence[str] | None,
    identity: str,
    *,
    store: str = LOCAL,
    claimed: Mapping[str, Claimed] | None = None,
    strict: bool = True,
    progress: Progress = lambda _: None,
) -> dict[str, Any]:
    """Restore `target` (a string is the id of a set) of the host or a store into throw-away engines here, and attack.

    A set is compared with its manifest. A point or a time is a set and the log after it, which no manifest describes:
    it must end at its fences, and be sound.

    Every role is attacked on the copies of the engines in `claimed`, which must be as claimed when `strict`: a set that
    is not the newest may be older than the claim. Returns the evidence, after all is torn down.

    A copy that cannot be restored or differs makes the result `failed`, with the reason in the evidence.
    Raises UsageError when there is no such set or the identity is none, BusyError while another drill runs.
    """
    read_identities(identity)
    wanted = host.chosen(tuple(engines or ()))
    target = Target(target) if isinstance(target, str) else target
    found = choose(host, target, wanted, store).engines
    root = host.settings.drill_directory
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    sets = sorted({one.part.set_id for one in found.values()})
    started = now()
    with (
        hold(root / LOCK, f"drill of {target}"),
        fetched(host, store, found, progress) as source,
        ExitStack() as kept,
    ):
        for set_id in sets:
            kept.enter_context(hold(source.sets / set_id / LOCK, "drill", shared=True))
        remove_leftovers(root)
        with _folder(root) as folder:
            round_ = _Round(source, found, identity, folder, dict(claimed or {}), progress, strict=strict)
            round_.run()
    observed = {"set_id": sets[-1], "target": str(target), "store": store, **round_.observed(started)}
    evidence = record("drill", started=started, passed=round_.passed, observed=observed)
    write(evidence, host.settings.evidence)
    return evidence


@contextmanager
def _folder(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="copies-", dir=root))
    try:
        folder.chmod(0o711)  # the engines' own users must reach their folders inside
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass
class _Round:
    """The copies of one drill, all there at once: the application needs the three of them."""

    source: BackupHost
    chosen: Mapping[str, Chosen]
    identity: str
    folder: Path
    claimed: Mapping[str, Claimed]
    progress: Progress
    strict: bool
    proofs: dict[str, Proof] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    attacked: set[str] = field(default_factory=set)
    application: Proof | None = None
    references: dict[str, Any] | None = None

    def run(self) -> None:
        """Restore, compare and attack every engine; what fails is in its proof and stops no other."""
        authority = Authority(self.folder, "dbkeep drill")
        with ExitStack() as stack:
            for engine in self.chosen:
                self.proofs[engine] = Proof()
                running = ExitStack()
                stack.callback(self._stop, engine, running)
                with self.proofs[engine].caught():
                    self._restore(engine, authority, running)
            self._compare_references()
            for engine in [name for name in self.copies if name in self.claimed]:
                self.progress(f"{engine}: attacking the copy as every role")
                with self.proofs[engine].caught():
                    self._reprove(engine)
            self._use(authority)
        for engine, proof in self.proofs.items():
            if not proof.assertions and proof.error is None:
                proof.error = "the drill asserted nothing"
            self.progress(f"{engine}: {_verdict(self.result(engine))}")

    def _restore(self, engine: str, authority: Authority, running: ExitStack) -> None:
        one, proof = self.chosen[engine], self.proofs[engine]
        carried = f", carried on to {one.at.isoformat()}," if one.point else ""
        self.progress(f"{engine}: restoring set {one.part.set_id}{carried} into a throw-away server")
        folder = self.folder / engine
        folder.mkdir(mode=0o711)
        folder.chmod(0o711)
        served = serving(engine, folder, authority, self.claimed.get(engine), strict=self.strict)
        drilled = engine_drill(engine)
        copy = running.enter_context(drilled.copied(self.source, one, self.identity, served, proof))
        if one.point is None:
            drilled.compare(self.source, one.part, copy, proof)
        drilled.inspect(self.source, copy, proof)
        self.copies[engine] = copy
        self.progress(f"{engine}: opening damaged copies of a file, which must be refused")
        refuse(self.source, one.part, self.identity, folder, proof)

    def _compare_references(self) -> None:
        """Ask the copies whom they name: what dangles is listed and is no failure, for it may have done so before."""
        if "postgresql" not in self.copies or len(self.copies) == 1:
            return
        settings: dict[str, Any] = {engine: copy.settings for engine, copy in self.copies.items()}
        nobody: dict[str, Any] = dict.fromkeys(NAMES)
        with self.proofs["postgresql"].caught():
            self.references = as_json(compare_here(replace(self.source, **(nobody | settings))))

    def _reprove(self, engine: str) -> None:
        if engine_reproof(engine).reprove(self.copies[engine], self.claimed[engine], self.proofs[engine]):
            self.attacked.add(engine)

    def _use(self, authority: Authority) -> None:
        """Put the application before the copies, when all are here and each was attacked: it logs on as they say."""
        if self.attacked != set(NAMES):
            return
        self.progress("application: starting it before the copies")
        self.application = Proof()
        with self.application.caught():
            drill_application.use(self.copies, self.folder, authority, self.application)

    def _stop(self, engine: str, running: ExitStack) -> None:
        with self.proofs[engine].caught():
            running.close()

    @property
    def passed(self) -> bool:
        proofs = [*self.proofs.values(), *([self.application] if self.application else [])]
        return all(proof.passed for proof in proofs)

    def observed(self, started: datetime) -> dict[str, Any]:
        """Return what evidence of the drill, begun at `started`, holds."""
        results = {engine: self.result(engine) for engine in self.chosen}
        moments = [one.at for one in self.chosen.values()]
        files = [
            *(file for one in self.chosen.values() for file in one.part.stored_files()),
            *(file for one in self.chosen.values() for found in one.slices for file in found.stored_files()),
        ]
        return {
            "engines": results,
            "application": self.application and self.application.as_json(),
            "references": self.references,
            "stored_bytes": sum(file.size for file in files),
            "skew_seconds": skew_seconds(moments),
            "rpo_seconds": round((started - min(moments)).total_seconds(), 3),
            "rto_seconds": round(sum(result["rto_seconds"] or 0 for result in results.values()), 3),
        }

    def result(self, engine: str) -> dict[str, Any]:
        one, proof = self.chosen[engine], self.proofs[engine]
        return {
            **proof.as_json(),
            "set_id": one.part.set_id,
            "slices": len(one.slices),
            "recovery_point": one.at.isoformat(),
            "source_version": one.part.server_version,
            "copy_version": proof.version,
            "rto_seconds": proof.rto_seconds,
            "attacked": engine in self.attacked,
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
