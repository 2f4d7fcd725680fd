"""The difference between the declared and the live settings of one instance. Pure: nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbkeep.plan import Change, Risk
from dbkeep.redis import risks, statements
from dbkeep.redis.declared import HOST_DIRECTIVES, Declared
from dbkeep.redis.defaults import defaults
from dbkeep.redis.inspect import LiveInstance
from dbkeep.settings import RedisInstance, RedisSettings

RESTART = "a restart, which is not allowed: run playbooks/site.yml with -e redis_restart_allowed=true"
KINDS = frozenset({"setting", "configuration file", "restart"})
SECRETS = frozenset(
    {*("masterauth", "requirepass", "primaryauth", "tls-client-key-file-pass", "tls-key-file-pass"), "user"}
)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A declared setting that the server does not take, and why in its own words."""

    setting: str
    reason: str


def diff(
    declared: Declared, name: str, live: LiveInstance, host: RedisSettings, rejection: Rejection | None
) -> tuple[list[Change], list[Change]]:
    """Return the changes of an instance's settings and file, and the restart, which comes after everything else.

    What is not declared has to be what the server does when nothing is said. `rejection` is what a server like this
    one says of the declared settings.
    """
    own = host.instances[name]
    declared_here = statements.directives(declared, name, live.version_numbers, own.host_settings, host.memory_bytes)
    undeclared = {key: value for key, value in defaults(live.identity).items() if key in live.settings}
    places = {key: f"redis/instances.yml:{line}" for key, line in declared.lines.get(name, {}).items()}
    places |= dict.fromkeys(own.host_settings.keys() - HOST_DIRECTIVES, "redis_settings")
    state = _State(name, live, declared_here, undeclared | declared_here, places)
    refused = list(state.refused(rejection))
    out_of_reach = {change.target for change in refused}
    different = [key for key in state.different() if f"{name} {key}" not in out_of_reach]
    changes = [*refused, *state.dynamic(different), *state.file(own.config_file)]
    return changes, list(state.restart(different, own, allowed=host.restart_allowed))


@dataclass(frozen=True, slots=True)
class _State:
    """One instance's settings: `wanted` has the declared ones and what all others are when nothing is said.

    `places` says where a declared one stands.
    """

    instance: str
    live: LiveInstance
    declared: Mapping[str, str]
    wanted: Mapping[str, str]
    places: Mapping[str, str]

    def refused(self, rejection: Rejection | None) -> Iterator[Change]:
        """Declared settings that this server does not know or whose value it does not take."""
        problems = {name: "has no such setting" for name in self.declared if name not in self.live.settings}
        if rejection and rejection.setting not in problems:
            problems[rejection.setting] = f"does not take it: {rejection.reason}"
        for name, problem in sorted(problems.items()):
            yield self._change(
                "setting", name, f'is declared "{self.declared.get(name, "")}"', None,
                before=self.live.settings.get(name), after=self.declared.get(name),
                refused=f"{self.places.get(name, name)}: {self.live.identity} {problem}",
            )  # fmt: skip

    def different(self) -> list[str]:
        """Names of the settings that the server holds another value of."""
        return [
            name
            for name, value in sorted(self.wanted.items())
            if name in self.live.settings
            and statements.canonical(self.live.settings[name]) != statements.canonical(value)
        ]

    def dynamic(self, different: list[str]) -> Iterator[Change]:
        for name in different:
            if name in statements.STATIC:
                continue
            risk, words = risks.of_setting(name, statements.canonical(self.wanted[name]), self.live)
            yield self._change(
                "setting", name, self._said(name) + (f": {words}" if words else ""),
                statements.set_setting(self.instance, name, self.wanted[name]),
                before=self._shown(name), after=self.wanted[name], risk=risk,
            )  # fmt: skip

    def file(self, path: Path | None) -> Iterator[Change]:
        """What the next start reads."""
        text = statements.configuration_file(self.declared)
        have = self.live.configuration_text
        if path is None or have == text:
            return
        extra, lacking = _lines(have or "", but_not=text), _lines(text, but_not=have or "")
        names = sorted({line.split()[0] for line in (*extra, *lacking)})
        differs = f"differs in {', '.join(names)}" if names else "has the declared settings in other words"
        yield _change(
            "configuration file", str(path),
            f"{differs}: the next start would read that" if have else "is missing",
            statements.WriteFile(path, text),
            before="\n".join(map(_masked, extra)), after="\n".join(lacking),
        )  # fmt: skip

    def restart(self, different: list[str], own: RedisInstance, *, allowed: bool) -> Iterator[Change]:
        """One restart for all that only a start reads; the configuration file is right by then."""
        names = [name for name in different if name in statements.STATIC]
        said = [self._said(name) for name in names]
        said += [f"module {module} is loaded, not declared" for module in self.live.modules]
        if said:
            cost = risks.of_restart(self.live, self.declared)
            yield _change(
                "restart", self.instance, f"{'; '.join(said)}: {cost}",
                statements.Restart(own.unit or f"the server of {self.instance}"),
                before={name: self._shown(name) for name in names}, after={name: self.wanted[name] for name in names},
                risk=Risk.LOCKING, waits_for=None if own.unit and allowed else RESTART,
            )  # fmt: skip

    def _said(self, name: str) -> str:
        value = f'declared "{self.wanted[name]}"' if name in self.declared else (
            f'not declared, by default "{self.wanted[name]}"')  # fmt: skip
        return f'{name} is "{self._shown(name)}", {value}' if name in statements.STATIC else (
            f'is "{self._shown(name)}", {value}')  # fmt: skip

    def _shown(self, name: str) -> str:
        return "…" if name in SECRETS else self.live.settings[name]

    def _change(
        self, kind: str, name: str, summary: str, operation: statements.Operation | None, **more: Any
    ) -> Change:
        return _change(kind, f"{self.instance} {name}", summary, operation, **more)


def _change(kind: str, target: str, summary: str, operation: statements.Operation | None, **more: Any) -> Change:
    return Change(
        statements.ENGINE, kind, target, summary, statements.shown(operation) if operation else "", operation, **more
    )


def _lines(text: str, *, but_not: str) -> list[str]:
    """Return the lines of `text` that say something and are not in the other text."""
    others = set(but_not.splitlines())
    return [line for line in text.splitlines() if line.strip() and line not in others and not line.startswith("#")]


def _masked(line: str) -> str:
    name = line.split(maxsplit=1)[0]
    return f"{name} …" if name in SECRETS else line
