"""Redis, broken."""

from .shell import Breakage, redis

REDIS = (
    Breakage(("RD-ACL-01",), redis("cache", "ACL SETUSER default on '>probe-probe' '~*' +@all")),
    Breakage(("RD-ACL-03", "RD-ACL-12", "RD-DRIFT"), redis("state", "ACL SETUSER svc_ws '~*'")),
    Breakage(("RD-AUTH-01",), redis("state", "ACL SETUSER svc_api nopass")),
    Breakage(("RD-CFG-01",), redis("cache", "CONFIG SET protected-mode no")),
    Breakage(("RD-NET-03",), redis("cache", "CONFIG SET port 6390"), redis("cache", "CONFIG SET port 0")),
    Breakage(
        ("RD-NET-01",),
        redis("cache", "CONFIG SET bind '*'"),
        redis("cache", 'CONFIG SET bind "$(sed -n "s/^bind //p" /etc/redis/redis-cache.conf)"'),
    ),
    Breakage(("RD-ACL-05",), redis("state", "ACL SETUSER svc_auth +flushall")),
    Breakage(("RD-ACL-06",), redis("cache", "ACL SETUSER svc_api +keys '~dbkeep:*'")),
    Breakage(("RD-MEM-01",), redis("cache", "CONFIG SET maxmemory 0")),
    Breakage(("RD-MEM-02",), redis("cache", "CONFIG SET maxmemory-policy noeviction")),
    Breakage(("RD-PER-01",), redis("state", "CONFIG SET appendfsync no")),
    Breakage(("RD-PER-03",), redis("cache", "CONFIG SET save '3600 1'")),
    Breakage(("RD-PER-05",), redis("cache", "SET cache:probe 1"), redis("cache", "DEL cache:probe")),
    Breakage(
        ("RD-FS-01",),
        "sudo chmod o+rx /var/lib/redis/state",
        "sudo chmod o-rx /var/lib/redis/state",
    ),
    # Last, because from then on state refuses to write.
    Breakage(("RD-MEM-03",), redis("state", "CONFIG SET maxmemory-clients 0 maxmemory 1mb")),
)
