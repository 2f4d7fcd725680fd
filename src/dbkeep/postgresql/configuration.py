"""Server settings: what `sql/settings.yml` declares, and its one rendering for a host.

`drop_ins` makes both what the configuration files say and what the server must hold, so that the role, which writes
the files before the first start, and the plan agree by construction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from dbkeep.declared import Model, line_of, read_model, read_yaml
from dbkeep.errors import DeclaredError, UsageError
from dbkeep.settings import PostgreSQLServer, PostgreSQLSettings

MEBIBYTE = 1024 * 1024
HEADER = "# Written by dbkeep from sql/settings.yml: change that file, then run `dbkeep apply postgresql`.\n"
# Only the host knows these; the role gives them through the agent's settings.
HOST_SETTINGS = frozenset(
    {
        *("config_file", "data_directory", "hba_file", "ident_file", "listen_addresses", "port"),
        *("ssl_ca_file", "ssl_cert_file", "ssl_key_file", "unix_socket_directories"),
    }
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$")]
Text = Annotated[str, StringConstraints(pattern=r"^[^\r\n]*$")]
Value = bool | int | float | Text


class Setting(Model):
    """A setting that not every server has, or that depends on the host. `at_least` and `at_most` bound a share."""

    value: Value | None = None
    since: int | None = None
    memory_share: float | None = Field(default=None, gt=0, le=1)
    processors: float | None = Field(default=None, gt=0)
    divided_by: Name | None = None
    at_least: int = 0
    at_most: int | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Setting:
        if [self.value, self.memory_share, self.processors].count(None) != 2:
            raise ValueError("needs one of value, memory_share and processors")
        return self


def _kind(value: object) -> str:
    return "mapping" if isinstance(value, dict | Setting) else "value"


# Told apart before they are checked, so that an error is about what was meant.
Declaration = Annotated[Annotated[Value, Tag("value")] | Annotated[Setting, Tag("mapping")], Discriminator(_kind)]


class Group(Model):
    why: str
    settings: dict[Name, Declaration]


class Configuration(Model):
    """The groups of each drop-in: the server's own, and the one that the role backup writes."""

    server: dict[Name, Group]
    archive: dict[Name, Group]


def read(path: Path) -> Configuration:
    """Return the declared settings in the file at `path`.

    Raises DeclaredError with file, line and key of the first thing that is wrong.
    """
    configuration = read_model(path, Configuration)
    _, lines = read_yaml(path)
    seen: set[str] = set()
    for part in ("server", "archive"):
        for group, name, setting in _settings(getattr(configuration, part)):
            problem = None
            if name in HOST_SETTINGS:
                problem = "belongs to the host: the role postgresql gives it"
            elif name in seen:
                problem = "stands in two groups"
            elif isinstance(setting, Setting) and setting.divided_by and not _is_number(configuration, setting):
                problem = f"divided_by {setting.divided_by}, which is not declared as a number"
            if problem:
                at = (part, group, "settings", name)
                raise DeclaredError(problem, path=path, line=line_of(lines, at), key=".".join(at))
            seen.add(name)
    return configuration


def _settings(groups: Mapping[str, Group]) -> Iterator[tuple[str, str, Value | Setting]]:
    for title, group in groups.items():
        for name, setting in group.settings.items():
            yield title, name, setting


def _is_number(configuration: Configuration, setting: Setting) -> bool:
    found = {name: value for _, name, value in _settings(configuration.server)}.get(setting.divided_by or "")
    return isinstance(found, int) and not isinstance(found, bool) and found > 0


def drop_ins(configuration: Configuration, host: PostgreSQLSettings, major: int) -> dict[Path, dict[str, str]]:
    """Return the settings of each configuration file that a server of version `major` has on `host`.

    Raises UsageError when a setting of the host is not what another one is computed from.
    """
    found: dict[Path, dict[str, str]] = {}
    if host.server:
        found[host.server.configuration_file] = server_settings(configuration, host.server, major)
    if host.archive:
        found[host.archive.configuration_file] = archive_settings(configuration, host.archive.settings)
    return found


def server_settings(configuration: Configuration, host: PostgreSQLServer, major: int) -> dict[str, str]:
    """Return every setting of the server's own file; those of the host win. Raises what `drop_ins` raises."""
    own: dict[str, str] = {name: _text(value) for name, value in host.settings.items()}
    declared = {name: setting for _, name, setting in _settings(configuration.server) if name not in own}
    for name, setting in declared.items():
        if not isinstance(setting, Setting):
            own[name] = _text(setting)
    for name, setting in declared.items():
        if isinstance(setting, Setting) and (setting.since is None or setting.since <= major):
            own[name] = _computed(name, setting, host, own)
    return own


def archive_settings(configuration: Configuration, own: Mapping[str, Value]) -> dict[str, str]:
    """Return every setting of the archive's file; those in `own` win."""
    declared = {name: setting for _, name, setting in _settings(configuration.archive)}
    return {name: _text(value) for name, value in {**declared, **own}.items()}


def _computed(name: str, setting: Setting, host: PostgreSQLServer, others: Mapping[str, str]) -> str:
    if setting.value is not None:
        return _text(setting.value)
    by = others.get(setting.divided_by, "") if setting.divided_by else "1"
    if not by.isdigit() or int(by) == 0:
        raise UsageError(f"postgresql_settings: {setting.divided_by} is {by!r}: {name} needs a whole number there")
    if setting.memory_share is not None:
        share, unit = int(host.memory_bytes * setting.memory_share) // MEBIBYTE // int(by), "MB"
    else:
        share, unit = int(host.processors * (setting.processors or 0)) // int(by), ""
    bounded = max(_rounded(share), setting.at_least)
    return f"{bounded if setting.at_most is None else min(bounded, setting.at_most)}{unit}"


def _rounded(number: int) -> int:
    """Keep four binary digits: a kernel that takes a few megabytes more must not ask for a restart."""
    step: int = 1 << max(number.bit_length() - 4, 0)
    return number // step * step


def _text(value: Value | Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value.value if isinstance(value, Setting) else value)


def drop_in(settings: Mapping[str, str]) -> str:
    """Return the text of a configuration file that holds `settings`, in alphabetical order."""
    return HEADER + "".join(f"{name} = {_quoted(settings[name])}\n" for name in sorted(settings))


def _quoted(value: str) -> str:
    """The file's own quoting: a backslash begins an escape, a quote is doubled (manual, 20.1.2)."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
