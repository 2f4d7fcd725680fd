"""Stores beside the host, broken one at a time: they are a bucket that locks, and then a mounted folder."""

from typing import Any

from .shell import Breakage, as_root

BUCKET, FOLDER = "offsite", "/srv/copies"
SETTINGS = "/etc/dbkeep/agent.d/backup.json"
KEPT = "/root/backup.json"
PYTHON = "/opt/dbkeep/venv/bin/python"

# Nothing is shipped to where the stores are not.
REST, GO_ON = "systemctl stop dbkeep-ship.service", "systemctl start dbkeep-ship.service"
UNDECLARED = f"cat {KEPT} > {SETTINGS} && rm {KEPT}"


def python(code: str) -> str:
    return f'{PYTHON} -c "{code}"'


def declared_as(**values: Any) -> str:
    """Return what gives the bucket other values than the inventory does."""
    return f"cp {SETTINGS} {KEPT} && " + python(
        f"import json, pathlib; path = pathlib.Path('{SETTINGS}'); settings = json.loads(path.read_text());"
        f" next(one for one in settings['stores'] if one['name'] == '{BUCKET}').update({values!r});"
        " path.write_text(json.dumps(settings))"
    )


UNLOCKED = python(
    "from dbkeep.backup.settings import read_host; from dbkeep.backup.stores.store import open_store;"
    f" open_store(read_host(), '{BUCKET}').client.create_bucket(Bucket='unlocked')"
)

STORES = (
    Breakage(
        ("BK-07", "BK-09"),  # both lost their copies
        as_root(f"{REST} && {declared_as(prefix='elsewhere/')} && mv {FOLDER}/sets {FOLDER}/sets.away"),
        as_root(f"{UNDECLARED} && mv {FOLDER}/sets.away {FOLDER}/sets && {GO_ON}"),
    ),
    Breakage(
        ("BK-08", "BK-09"),  # the copy in the folder is there, and no bucket locks
        as_root(f"{REST} && {UNLOCKED} && {declared_as(bucket='unlocked')}"),
        as_root(f"{UNDECLARED} && {GO_ON}"),
    ),
)
