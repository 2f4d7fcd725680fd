"""Asks the agents of all hosts for facts and plans, side by side and each once; controls wait for the answers."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Executor, Future
from typing import Any

from dbkeep.commands.plan import engine_request
from dbkeep.engines import NAMES
from dbkeep.environment import Environment, Host
from dbkeep.remote import call

Facts = dict[str, Any]


class Observations:
    """What the agents of an environment say. Asking raises what the call raised, to every control that asks."""

    def __init__(self, environment: Environment, areas: Collection[str], pool: Executor) -> None:
        self._environment = environment
        self._areas = areas
        self._pool = pool
        self._answers: dict[tuple[str, str, str], Future[Facts]] = {}

    def expect(self, host: Host) -> None:
        """Ask a host at once for all that the controls of these areas will want of it."""
        engines = [name for name in NAMES if name in host.groups]
        observers = ["host", "leaks"] if "host" in self._areas else []
        observers += [name for name in engines if name in self._areas]
        observers += ["backup"] if engines and "backup" in self._areas else []
        observers += ["postgresql"] if "postgresql" in engines and "isolation" in self._areas else []
        for name in observers:
            self._submit(host, "facts", name)
        for name in engines:
            if name in self._areas and host == self._environment.hosts(name)[0]:
                self._submit(host, "plan", name)

    def facts(self, host: Host, name: str) -> Facts:
        return self._submit(host, "facts", name).result()

    def changes(self, host: Host, engine: str) -> list[dict[str, Any]]:
        """Return the changes that apply would make to an engine on a host."""
        return list(self._submit(host, "plan", engine).result()["changes"])

    def _submit(self, host: Host, verb: str, name: str) -> Future[Facts]:
        key = (host.name, verb, name)
        if key not in self._answers:
            self._answers[key] = self._pool.submit(self._ask, host, verb, name)
        return self._answers[key]

    def _ask(self, host: Host, verb: str, name: str) -> Facts:
        if verb == "plan":
            return call(host, [verb, name], engine_request(self._environment, name))
        return call(host, [verb, name], self._request(name))

    def _request(self, observer: str) -> Facts | None:
        if observer == "redis":
            declared = engine_request(self._environment, observer)["declared"]
            return {"keyspaces": declared["keyspaces"]}
        requests: dict[str, Facts] = {"postgresql": {"people": True}, "leaks": {"secrets": self._environment.secrets}}
        return requests.get(observer)
