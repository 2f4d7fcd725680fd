"""Redis, broken."""

from .shell import Breakage, redis

# printf keeps the line's end that the first line of a library must have.
ROGUE = (
    """FUNCTION LOAD "$(printf '#!lua name=probe\\nredis.register_function([[probe]], function() return 1 end)')\""""
)

REDIS = (
    Breakage(("RD-ACL-01",), redis("cache", "ACL SETUSER default on '>probe-probe' '~*' +@all")),
    Breakage(
        ("RD-ACL-02",), "sudo chmod 0644 /etc/redis/users-cache.acl", "sudo chmod 0640 /etc/redis/users-cache.acl"
    ),
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
    Breakage(("RD-FUN-01",), redis("cache", ROGUE)),
    Breakage(("RD-MEM-01",), redis("cache", "CONFIG SET maxmemory 0")),
    Breakage(("RD-MEM-02",), redis("cache", "CONFIG SET maxmemory-policy noeviction")),
    Breakage(("RD-PER-01",), redis("state", "CONFIG SET appendfsync no")),
    Breakage(("RD-PER-03",), redis("cache", "CONFIG SET save '3600 1'")),
    Breakage(("RD-PER-05",), redis("cache", "SET cache:probe 1"), redis("cache", "DEL cache:probe")),
    Breakage(("RD-KEY-01",), redis("state", "SET probe:1 1 EX 600"), redis("state", "DEL probe:1")),
    Breakage(("RD-KEY-02",), redis("cache", "SET sess:probe 1 EX 600"), redis("cache", "DEL sess:probe")),
    Breakage(("RD-KEY-03",), redis("state", "SET sess:probe 1 EX 999999"), redis("state", "DEL sess:probe")),
    Breakage(("RD-KEY-04",), redis("cache", "LPUSH cache:list 1"), redis("cache", "DEL cache:list")),
    Breakage(("RD-ACL-13",), redis("state", "ACL SETUSER admin nopass")),
    Breakage(
        ("RD-FS-01",),
        "sudo chmod o+rx /var/lib/redis/state",
        "sudo chmod o-rx /var/lib/redis/state",
    ),
    # Last, because from then on state refuses to write.
    Breakage(("RD-MEM-03",), redis("state", "CONFIG SET maxmemory-clients 0 maxmemory 1mb")),
)
