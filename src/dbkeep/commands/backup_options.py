"""Options that the commands of backups share, and how they show what was done."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dbkeep.backup.settings import LOCAL
from dbkeep.engines import NAMES
from dbkeep.errors import UsageError
from dbkeep.files import open_mode

console = Console(highlight=False, soft_wrap=True)
environment_option = click.option(
    "-e", "--environment", "environment_name", default="lab", show_default=True, metavar="ENV"
)
engines_option = click.option(
    "--engine", "engines", multiple=True, type=click.Choice(NAMES), help="Only this engine; may be given again."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
set_option = click.option("--set", "set_id", metavar="ID", help="The backup set; the newest one without it.")
store_option = click.option(
    "--store", default=LOCAL, show_default=True, metavar="NAME", help="The copy of a store that backup_stores names."
)
identity_option = click.option(
    "--identity-file",
    type=click.Path(path_type=Path),
    help="The age identity that opens the set, - for standard input; the vault's without it.",
)


def show(line: str) -> None:
    click.echo(line, err=True)


def flat(evidence: dict[str, Any]) -> dict[str, Any]:
    """Return a record with what was observed beside who, when and versions, so that a script finds it at the top."""
    return {**{key: value for key, value in evidence.items() if key != "observed"}, **evidence["observed"]}


def read_identity_file(path: Path | None) -> str | None:
    """Return the text of the file, of standard input for `-`, None without a path.

    Raises UsageError when it cannot be read, or others than its owner and group can read it too.
    """
    if path is None:
        return None
    try:
        if str(path) == "-":
            return sys.stdin.read()
        if mode := open_mode(path):
            raise UsageError(f"{path} has mode {mode}, so others can read the identity: chmod 600 it")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the identity cannot be read: {error}") from None
