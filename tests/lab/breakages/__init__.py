"""Ways to break a host by hand, in the order in which they do not hide each other."""

from .backup import BACKUP
from .host import HOST
from .mongodb import MONGODB
from .postgresql import POSTGRESQL
from .redis import REDIS
from .shell import Breakage

ALL = (*HOST, *POSTGRESQL, *MONGODB, *REDIS, *BACKUP)

__all__ = ["ALL", "Breakage"]
