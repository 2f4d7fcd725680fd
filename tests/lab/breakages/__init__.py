"""Ways to break a host by hand, in the order in which they do not hide each other; repaired the other way round."""

from .backup import BACKUP
from .host import HOST
from .mongodb import MONGODB
from .postgresql import POSTGRESQL
from .redis import REDIS
from .shell import Breakage
from .stores import STORES

SERVERS = (*HOST, *POSTGRESQL, *MONGODB, *REDIS)
# The backups rest while the servers are broken, or their units would fail and stay so after the repair.
ALL = (*BACKUP, *SERVERS)

__all__ = ["ALL", "BACKUP", "SERVERS", "STORES", "Breakage"]
