"""Makes an environment: its inventory folder from inventory/example, its certificate authority and its secrets."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dbkeep.backup.signature import public_half
from dbkeep.environment import checkout
from dbkeep.errors import UsageError
from dbkeep.files import write_atomically
from dbkeep.secrets import add_missing, age_recipient, engine_users, faults, wanted
from dbkeep.tls import is_authority_of, new_authority
from dbkeep.vault import ensure_password, read_vault, write_vault

EXAMPLE = Path("inventory/example")
MAIN = Path("group_vars/all/main.yml")
HOSTS = Path("hosts.yml")

Hosts = Mapping[str, Mapping[str, Any]]

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Made:
    """What `create_environment` did: the inventory folder, whether it is new, and the names of the secrets added."""

    path: Path
    is_new: bool
    added: tuple[str, ...]


def create_environment(
    name: str,
    *,
    hosts: Hosts | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    variables: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Made:
    """Make the environment inventory/`name`, or complete it with the secrets it lacks when it exists.

    `hosts` (Ansible variables by host name) and `groups` (host names by group) replace hosts.yml; without them a new
    environment has the example's, to be edited. `variables` replace single variables of main.yml. Secrets that exist
    are never changed.

    Raises UsageError for a bad name, a bad secret (by its name) or an environment that cannot be read.
    """
    root = root or checkout()
    if not _NAME.fullmatch(name) or name == EXAMPLE.name:
        raise UsageError(f"{name!r} is no name for an environment: use lower-case letters, digits and -, not 'example'")
    path = root / "inventory" / name
    if path.is_dir():
        if not (path / MAIN).is_file():
            raise UsageError(
                f"{path} exists and has no {MAIN}, so it is no environment; move it away and run this again"
            )
        if hosts:
            _replace(path / HOSTS, _hosts_text(hosts, groups or {}))
        return Made(path, False, _complete(path, root, name, variables or {}))
    # Under a hidden name until it is whole: Ansible and dbkeep never see half an environment.
    unfinished = path.with_name(f".{name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    (unfinished / MAIN.parent).mkdir(parents=True)
    for file in (MAIN, HOSTS):
        shutil.copyfile(root / EXAMPLE / file, unfinished / file)
    if hosts:
        _replace(unfinished / HOSTS, _hosts_text(hosts, groups or {}))
    added = _complete(unfinished, root, name, variables or {})
    try:
        unfinished.rename(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be made: {os.strerror(error.errno or 0)}") from None
    return Made(path, True, added)


def _complete(path: Path, root: Path, name: str, variables: Mapping[str, Any]) -> tuple[str, ...]:
    needs = wanted(engine_users(root))
    ensure_password(path)
    secrets, added = add_missing(read_vault(path), needs)
    bad = faults(secrets, needs)
    if bad:
        raise UsageError(f"{'; '.join(bad)}: take the value out of the vault and run `dbkeep init {name}` again")
    if added:
        write_vault(path, secrets)
    text = (path / MAIN).read_text(encoding="utf-8")
    present = yaml.safe_load(text) or {}
    for key, value in {"dbkeep_environment": name, **variables, **_public(secrets, present, name)}.items():
        if present.get(key) != value:
            text = set_variable(text, key, value)
    _replace(path / MAIN, text)
    return tuple(added)


def _public(secrets: Mapping[str, Any], present: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the public halves of the secrets; the authority's certificate stays as long as it fits its key."""
    certificate = present.get("dbkeep_ca_certificate") or ""
    if not is_authority_of(secrets["ca_private_key"], certificate):
        certificate = new_authority(secrets["ca_private_key"], f"dbkeep {name} authority")
    recipient = age_recipient(secrets["backup"]["age_identity"])
    recipients = present.get("backup_age_recipients") or []
    signer = public_half(secrets["backup"]["signing_key"])
    signers = present.get("backup_signing_keys") or []
    return {
        "dbkeep_ca_certificate": certificate,
        "backup_age_recipients": recipients if recipient in recipients else [*recipients, recipient],
        "backup_signing_keys": signers if signer in signers else [*signers, signer],
    }


def _hosts_text(hosts: Hosts, groups: Mapping[str, Sequence[str]]) -> str:
    children = {group: {"hosts": dict.fromkeys(members)} for group, members in groups.items()}
    entries = {name: dict(variables) for name, variables in hosts.items()}
    return yaml.safe_dump({"all": {"hosts": entries, "children": children}}, sort_keys=False, width=4096)


def set_variable(text: str, key: str, value: Any) -> str:
    """Return the YAML mapping `text` with the top-level `key` set to `value`; every other line and comment stays."""
    entry = yaml.dump({key: value}, Dumper=_Literal, sort_keys=False, width=4096)
    found = re.compile(rf"^{re.escape(key)}:.*\n(?:[ -].*\n)*", re.MULTILINE)
    if found.search(text):
        return found.sub(lambda _: entry, text, count=1)
    return f"{text.rstrip()}\n\n{entry}"


class _Literal(yaml.SafeDumper):
    """Writes text of several lines, such as a certificate, as it is."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Literal.add_representer(str, _Literal.represent_str)


def _replace(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text, mode=0o644)
