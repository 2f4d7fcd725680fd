"""The hosts of an environment for pyinfra's command line; DBKEEP_ENVIRONMENT names it (lab without it)."""

import os as _os

from dbkeep.environment import read_environment as _read_environment
from dbkeep.pyinfra_inventory import pyinfra_groups as _pyinfra_groups

# pyinfra takes every variable of this file that is a list for a group of hosts.
globals().update(_pyinfra_groups(_read_environment(_os.environ.get("DBKEEP_ENVIRONMENT", "lab"))))
