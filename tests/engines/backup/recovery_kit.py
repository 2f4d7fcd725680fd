"""The commands of docs/recovery-kit.md, and what an operator has to run them with after the host is lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dbkeep.backup.escrow import write_escrow
from dbkeep.environment import Environment, checkout
from dbkeep.sandbox import s3
from dbkeep.secrets import age_recipient

from ... import signing

PAGE = checkout() / "docs/recovery-kit.md"
CIPHER_PASS = "only-for-this-test-0123456789"


def blocks(language: str, having: str = "") -> list[str]:
    """Return the page's blocks of a language that hold a text, in its order."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block for block in found if having in block]


def block(language: str, having: str) -> str:
    """Return the one block that holds a text."""
    (found,) = blocks(language, having)
    return found


def open_and_fetch() -> tuple[str, ...]:
    """Return the commands up to a set that is checked, for a store that is a directory."""
    return block("bash", 'age -d -i "$IDENTITY" "$ESCROW"'), _from_a_directory(), block("bash", "signed() {")


def _from_a_directory() -> str:
    (line,) = re.findall(r"^Is the store a directory.*`(fetch\(\).*)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return str(line)


def environment_of(folder: Path, identity: str, recipients: tuple[str, ...]) -> Environment:
    """Return an environment whose vault has `identity`, with an inventory below `folder`."""
    path = folder / "inventory"
    (path / "group_vars/all").mkdir(parents=True, exist_ok=True)
    (path / "group_vars/all/main.yml").write_text("dbkeep_environment: production\n")
    (path / ".vault-password").write_text("the password of the vault\n")
    backup = {"pgbackrest_cipher_pass": CIPHER_PASS, "age_identity": identity, "store_keys": {"offsite": s3.KEY}}
    variables = {"backup_age_recipients": list(recipients), "backup_signing_keys": list(signing.PUBLIC)}
    return Environment("production", path, (), variables, {"backup": backup})


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody in an empty folder with an identity and the escrow. `variables` are the page's own."""

    kit: Path
    variables: dict[str, str]

    def run(self, *commands: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run commands of the page, one after another in one shell."""
        return subprocess.run(
            ["bash", "-c", "\n".join(commands)],
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )


def operator(folder: Path, identity: str, recipients: tuple[str, ...], variables: Mapping[str, str]) -> Operator:
    """Return an operator whose identity is one of `recipients`, and who works below `folder`."""
    # Another identity in the vault: then the operator's is one that is kept offline.
    environment = environment_of(folder, "", recipients)
    assert age_recipient(identity) in write_escrow(environment, folder / "escrow.age")
    (folder / "operator.key").write_text(f"# kept offline\n{identity}\n")
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "TZ": "UTC",
        "KIT": str(folder / "kit"),
        "IDENTITY": str(folder / "operator.key"),
        "ESCROW": str(folder / "escrow.age"),
        "TIME": "",
    }
    return Operator(folder / "kit", {**own, **variables})
