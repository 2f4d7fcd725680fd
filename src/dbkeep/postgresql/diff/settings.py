"""The difference between the declared and the live settings of the server. Pure: nothing here does I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbkeep.plan import Change, Risk
from dbkeep.postgresql import hba
from dbkeep.postgresql.configuration import drop_in, drop_ins
from dbkeep.postgresql.inspect.settings import Line, LiveConfiguration, LiveSetting
from dbkeep.postgresql.models import Declared
from dbkeep.postgresql.server import Operation, Reload, ResetSetting, Restart, WriteFile
from dbkeep.settings import PostgreSQLSettings

RESTART = "a restart, which is not allowed: run playbooks/site.yml with -e postgresql_restart_allowed=true"
# What a session brings along says nothing about the server: roles and databases have settings of their own.
OF_A_SESSION = frozenset({"client", "database", "database user", "session", "user"})
OF_THE_START = frozenset({"command line", "environment variable"})
# Units of pg_settings, in bytes and in microseconds (manual, 20.1.1).
UNITS = {
    "B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4,
    "us": 1, "ms": 1000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6,
}  # fmt: skip
BOOLEANS = {"on": "on", "true": "on", "yes": "on", "1": "on", "off": "off", "false": "off", "no": "off", "0": "off"}
# The one choice that the server prints as another.
SYNONYMS = {("wal_compression", "on"): "pglz"}


def diff(declared: Declared, live: LiveConfiguration, host: PostgreSQLSettings) -> tuple[list[Change], list[Change]]:
    """Return the changes that a reload finishes, which come first, and the restart, which comes after everything else.

    Raises UsageError when a setting of the host is not what another one is computed from.
    """
    files = drop_ins(declared.configuration, host, live.major)
    wanted = {name: value for settings in files.values() for name, value in settings.items()}
    state = _State(live, wanted, frozenset(files))
    texts = {path: drop_in(settings) for path, settings in files.items()}
    texts |= hba.files(declared, host.access) if host.access else {}
    overrides = list(state.overrides())
    reloads = [*state.refused(), *_files(texts, live), *overrides, *state.broken_files()]
    # As long as a person must act first, neither a reload nor a restart changes these.
    out_of_reach = {change.target for change in overrides if change.waits_for}
    different = [name for name in state.different() if name not in out_of_reach]
    if not any(isinstance(change.operation, WriteFile | ResetSetting) for change in reloads):
        reloads += state.reload(different)
    return reloads, list(state.restart(different, host))


def _change(
    kind: str,
    target: str,
    summary: str,
    operation: Operation | None,
    *,
    before: Any = None,
    after: Any = None,
    risk: Risk = Risk.SAFE,
    refused: str | None = None,
    waits_for: str | None = None,
) -> Change:
    return Change(
        engine="postgresql", kind=kind, target=target, summary=summary, statement=operation.text() if operation else "",
        operation=operation, before=before, after=after, risk=risk, refused=refused, waits_for=waits_for,
    )  # fmt: skip


def _files(texts: Mapping[Path, str], live: LiveConfiguration) -> Iterator[Change]:
    """Our files that are missing or hold something else."""
    for path, text in texts.items():
        have = live.files.get(path)
        if have == text:
            continue
        extra, lacking = _lines(have or "", but_not=text), _lines(text, but_not=have or "")
        names = sorted({line.split("=")[0].strip() for line in (*extra, *lacking) if re.match(r"[\w.]+ *=", line)})
        if have is None:
            summary = "is missing"
        elif names:
            summary = f"differs in {', '.join(names)}"
        else:
            summary = f"has {len(extra)} lines that are not ours and lacks {len(lacking)}"
        yield _change(
            "configuration file", str(path), summary, WriteFile(path, text),
            before="\n".join(extra), after="\n".join(lacking),
        )  # fmt: skip


def _lines(text: str, *, but_not: str) -> list[str]:
    """Return the lines of `text` that say something and are not in the other text."""
    others = set(but_not.splitlines())
    return [line for line in text.splitlines() if line.strip() and line not in others and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class _State:
    """The settings wanted, by name, against what is live. `ours` are the files that we write."""

    live: LiveConfiguration
    wanted: Mapping[str, str]
    ours: frozenset[Path]

    def refused(self) -> Iterator[Change]:
        """Declared settings that this server does not know or whose value it would not take."""
        for name, value in sorted(self.wanted.items()):
            have = self.live.settings.get(name)
            # A library brings its settings when it is loaded.
            problem = None if have or "." in name else "no such setting"
            if have:
                try:
                    canonical(name, value, have)
                except ValueError as error:
                    problem = str(error)
            if problem:
                yield _change(
                    "server setting", name, f'is declared "{value}"', None, before=have and have.value, after=value,
                    refused=f"PostgreSQL {self.live.major}: {problem}: correct sql/settings.yml or postgresql_settings",
                )  # fmt: skip

    def overrides(self) -> Iterator[Change]:
        """Settings of ours that something else decides: ALTER SYSTEM, a later file, the way the server is started."""
        last: dict[str, Line] = {line.name: line for line in self.live.lines if line.name}
        for name, value in sorted(self.wanted.items()):
            have, line = self.live.settings.get(name), last.get(name)
            if have and have.source in OF_THE_START:
                yield _change(
                    "server setting", name, f'is set to "{have.value}" by the {have.source}', None,
                    before=have.value, after=value, waits_for="a person who removes it there and restarts the server",
                )  # fmt: skip
            elif line and line.path not in self.ours and self._comes_after_ours(name, line):
                automatic = line.path == self.live.automatic_file
                yield _change(
                    "server setting", name,
                    f'is set to "{line.value}" by {"ALTER SYSTEM" if automatic else f"{line.path}:{line.number}"}',
                    self._reset(name) if automatic else None, before=line.value, after=value,
                    waits_for=None if automatic else "a person who removes that line, which is not ours",
                )  # fmt: skip

    def _comes_after_ours(self, name: str, line: Line) -> bool:
        """While our file is missing, an earlier one has the last word, and then our file is the change."""
        if line.path == self.live.automatic_file:
            return True
        return any(other.name == name and other.path in self.ours for other in self.live.lines)

    def _reset(self, name: str) -> Operation:
        """ALTER SYSTEM, or without it (17 and newer may forbid it) the file that it would write."""
        allowed = self.live.settings.get("allow_alter_system", LiveSetting("on")).value == "on"
        text = self.live.files.get(self.live.automatic_file)
        if allowed or text is None:
            return ResetSetting(name)
        others = {line.name for line in self.live.lines if line.path == self.live.automatic_file} & self.wanted.keys()
        ours = re.compile(rf"^\s*({'|'.join(map(re.escape, sorted(filter(None, others))))})\s*[=\s].*\n?", re.M | re.I)
        return WriteFile(self.live.automatic_file, ours.sub("", text))

    def broken_files(self) -> Iterator[Change]:
        """Lines that keep the server from reading any of its configuration; what is missing has no line number."""
        for line in self.live.lines:
            if line.error and line.name is None and line.number and line.path not in self.ours:
                yield _change(
                    "configuration file", f"{line.path}:{line.number}", line.error, None,
                    waits_for="a person who corrects that line: until then the server reads none of its files",
                )  # fmt: skip

    def reload(self, different: list[str]) -> Iterator[Change]:
        """One reload for what the files hold and the server has not read."""
        names = [name for name in different if self.live.settings[name].context != "postmaster"]
        stale = [
            name for name, value in sorted(self.wanted.items())
            if (have := self.live.settings.get(name)) and have.pending_restart and self._same(name, value, have)
        ]  # fmt: skip
        said = [*self._said(names), *(f"{name} was changed back" for name in stale)]
        if said or self.live.unread:
            said += [f"{path} changed after the server read it" for path in self.live.unread if not said]
            yield _change(
                "reload", "server", "; ".join(said),
                Reload(), before={name: self.live.settings[name].value for name in names},
                after={name: self.wanted[name] for name in names},
            )  # fmt: skip

    def restart(self, different: list[str], host: PostgreSQLSettings) -> Iterator[Change]:
        """One restart for all settings that only a start reads; the files are right by then."""
        names = [name for name in different if self.live.settings[name].context == "postmaster"]
        unit = host.server.unit if host.server else None
        if names:
            yield _change(
                "restart", "server", "; ".join(self._said(names)), Restart(unit or "of the server"),
                before={name: self.live.settings[name].value for name in names},
                after={name: self.wanted[name] for name in names}, risk=Risk.LOCKING,
                waits_for=None if unit and host.server and host.server.restart_allowed else RESTART,
            )  # fmt: skip

    def different(self) -> list[str]:
        """Names of the settings that the server holds another value of."""
        return [
            name for name, value in sorted(self.wanted.items())
            if (have := self.live.settings.get(name)) and have.source not in OF_A_SESSION
            and not self._same(name, value, have)
        ]  # fmt: skip

    def _same(self, name: str, value: str, have: LiveSetting) -> bool:
        try:
            return canonical(name, have.value, have) == canonical(name, value, have)
        except ValueError:
            return True

    def _said(self, names: list[str]) -> list[str]:
        return [f'{name} is "{self._shown(name)}", declared "{self.wanted[name]}"' for name in names]

    def _shown(self, name: str) -> str:
        have = self.live.settings[name]
        unit = have.unit if have.unit and have.value not in ("0", "-1") else None
        return f"{have.value} x {unit}" if unit and unit[0].isdigit() else f"{have.value}{unit or ''}"


def canonical(name: str, value: str, setting: LiveSetting) -> str | float:
    """Return `value` as the server holds it: numbers in the setting's own unit, choices and booleans in one spelling.

    Raises ValueError, with what would be right, for a value that the server does not take.
    """
    if setting.kind == "bool":
        return _choice(value.lower(), ("on", "off"))
    if setting.kind == "enum":
        chosen = _choice(value.lower(), setting.choices)
        return SYNONYMS.get((name, chosen), chosen)
    if setting.kind not in ("integer", "real"):
        return value
    number = _number(value, setting)
    if (setting.low is not None and number < setting.low) or (setting.high is not None and number > setting.high):
        raise ValueError(f"{value} is outside {setting.low:g} to {setting.high:g}{setting.unit or ''}")
    return number


def _choice(value: str, choices: tuple[str, ...]) -> str:
    known = {choice.lower(): choice for choice in choices}
    word = value if value in known else BOOLEANS.get(value, value)
    if word not in known:
        raise ValueError(f'"{value}" is none of {", ".join(choices)}')
    return known[word]


def _number(value: str, setting: LiveSetting) -> float:
    if re.fullmatch(r"0[0-7]+", value):
        return int(value, 8)
    found = re.fullmatch(r"\s*([+-]?[0-9.]+(?:e[+-]?\d+)?)\s*([A-Za-z]*)\s*", value)
    if not found or (found[2] and (found[2] not in UNITS or not setting.unit)):
        raise ValueError(f'"{value}" is no number{f" with a unit like {setting.unit}" if setting.unit else ""}')
    number = float(found[1])
    if found[2] and setting.unit:
        base = re.fullmatch(r"(\d*)(\w+)", setting.unit)
        number = number * UNITS[found[2]] / (int(base[1] or 1) * UNITS[base[2]] if base else 1)
    return float(round(number)) if setting.kind == "integer" else number
