"""Runbook: collect versions, service states, plans and check results of every host into one archive without secrets.

    DBKEEP_ENVIRONMENT=lab .venv/bin/pyinfra -y scripts/inventory.py scripts/diagnostics.py

or `dbkeep diagnostics -e lab`. It only reads. What cannot be collected is named in the archive's index.json.
"""

import os
from pathlib import Path

from pyinfra.context import host
from pyinfra.operations import python

from dbkeep.diagnostics import Collection

collection = Collection.of(os.environ.get("DBKEEP_ENVIRONMENT", "lab"))


def collect() -> None:
    for name, command in collection.commands(host.name).items():
        succeeded, output = host.run_shell_command(command, _sudo=True)
        collection.add(f"{host.name}/{name}", output.stdout, None if succeeded else output.stderr)


def pack() -> None:
    collection.add_plans()
    collection.add_last_check()
    collection.write(Path(os.environ.get("DBKEEP_DIAGNOSTICS", collection.default_path())))


python.call(name="Collect versions, service states and facts", function=collect)
python.call(name="Add plans and check results, and pack", function=pack, _run_once=True)
