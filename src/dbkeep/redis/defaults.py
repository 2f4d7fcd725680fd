"""What the servers do when nothing is said: the values of CONFIG GET on a server that was given no setting.

A closed world needs them: a server does not say which of its settings were changed by hand. They are one test's word
against real servers of each version. Left out are what the host gives (`HOST_DIRECTIVES`), what the unit's command line
sets, and second names of a setting (`is_alias`).
"""

from __future__ import annotations

import re

from dbkeep.redis.server import Server
from dbkeep.settings import RedisServer

# fmt: off
_REDIS_7_0: dict[str, str | None] = {
    "acl-pubsub-default": "resetchannels", "acllog-max-len": "128", "active-defrag-cycle-max": "25",
    "active-defrag-cycle-min": "1", "active-defrag-ignore-bytes": "104857600", "active-defrag-max-scan-fields": "1000",
    "active-defrag-threshold-lower": "10", "active-defrag-threshold-upper": "100", "active-expire-effort": "1",
    "activedefrag": "no", "activerehashing": "yes", "always-show-logo": "no", "aof-disable-auto-gc": "no",
    "aof-load-truncated": "yes", "aof-rewrite-incremental-fsync": "yes", "aof-timestamp-enabled": "no",
    "aof-use-rdb-preamble": "yes", "aof_rewrite_cpulist": "", "appenddirname": "appendonlydir",
    "appendfilename": "appendonly.aof", "appendfsync": "everysec", "appendonly": "no",
    "auto-aof-rewrite-min-size": "67108864", "auto-aof-rewrite-percentage": "100", "bgsave_cpulist": "",
    "bind-source-addr": "", "bio_cpulist": "", "busy-reply-threshold": "5000",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "client-query-buffer-limit": "1073741824", "cluster-allow-pubsubshard-when-down": "yes",
    "cluster-allow-reads-when-down": "no", "cluster-allow-replica-migration": "yes", "cluster-announce-bus-port": "0",
    "cluster-announce-hostname": "", "cluster-announce-ip": "", "cluster-announce-port": "0",
    "cluster-announce-tls-port": "0", "cluster-config-file": "nodes.conf", "cluster-enabled": "no",
    "cluster-link-sendbuf-limit": "0", "cluster-migration-barrier": "1", "cluster-node-timeout": "15000",
    "cluster-port": "0", "cluster-preferred-endpoint-type": "ip", "cluster-replica-no-failover": "no",
    "cluster-replica-validity-factor": "10", "cluster-require-full-coverage": "yes", "crash-log-enabled": "yes",
    "crash-memcheck-enabled": "yes", "daemonize": "no", "databases": "16", "dbfilename": "dump.rdb",
    "disable-thp": "yes", "dynamic-hz": "yes", "enable-debug-command": "no", "enable-module-command": "no",
    "enable-protected-configs": "no", "hash-max-listpack-entries": "512", "hash-max-listpack-value": "64",
    "hll-sparse-max-bytes": "3000", "hz": "10", "ignore-warnings": "", "io-threads": "1", "io-threads-do-reads": "no",
    "jemalloc-bg-thread": "yes", "latency-monitor-threshold": "0", "latency-tracking": "yes",
    "latency-tracking-info-percentiles": "50 99 99.9", "lazyfree-lazy-eviction": "no", "lazyfree-lazy-expire": "no",
    "lazyfree-lazy-server-del": "no", "lazyfree-lazy-user-del": "no", "lazyfree-lazy-user-flush": "no",
    "lfu-decay-time": "1", "lfu-log-factor": "10", "list-compress-depth": "0", "list-max-listpack-size": "-2",
    "logfile": "", "loglevel": "notice", "masterauth": "", "masteruser": "", "maxclients": "10000", "maxmemory": "0",
    "maxmemory-clients": "0", "maxmemory-eviction-tenacity": "10", "maxmemory-policy": "noeviction",
    "maxmemory-samples": "5", "min-replicas-max-lag": "10", "min-replicas-to-write": "0",
    "no-appendfsync-on-rewrite": "no", "notify-keyspace-events": "", "oom-score-adj": "no",
    "oom-score-adj-values": "0 200 800", "port": "6379", "proc-title-template": "{title} {listen-addr} {server-mode}",
    "propagation-error-behavior": "ignore", "protected-mode": "yes", "proto-max-bulk-len": "536870912",
    "rdb-del-sync-files": "no", "rdb-save-incremental-fsync": "yes", "rdbchecksum": "yes", "rdbcompression": "yes",
    "repl-backlog-size": "1048576", "repl-backlog-ttl": "3600", "repl-disable-tcp-nodelay": "no",
    "repl-diskless-load": "disabled", "repl-diskless-sync": "yes", "repl-diskless-sync-delay": "5",
    "repl-diskless-sync-max-replicas": "0", "repl-ping-replica-period": "10", "repl-timeout": "60",
    "replica-announce-ip": "", "replica-announce-port": "0", "replica-announced": "yes",
    "replica-ignore-disk-write-errors": "no", "replica-ignore-maxmemory": "yes", "replica-lazy-flush": "no",
    "replica-priority": "100", "replica-read-only": "yes", "replica-serve-stale-data": "yes", "replicaof": "",
    "requirepass": "", "sanitize-dump-payload": "no", "save": "3600 1 300 100 60 10000", "server_cpulist": "",
    "set-max-intset-entries": "512", "set-proc-title": "yes", "shutdown-on-sigint": "default",
    "shutdown-on-sigterm": "default", "shutdown-timeout": "10", "slowlog-log-slower-than": "10000",
    "slowlog-max-len": "128", "socket-mark-id": "0", "stop-writes-on-bgsave-error": "yes",
    "stream-node-max-bytes": "4096", "stream-node-max-entries": "100", "syslog-enabled": "no",
    "syslog-facility": "local0", "syslog-ident": "redis", "tcp-backlog": "511", "tcp-keepalive": "300", "timeout": "0",
    "tls-auth-clients": "yes", "tls-ca-cert-dir": "", "tls-ciphers": "", "tls-ciphersuites": "",
    "tls-client-cert-file": "", "tls-client-key-file": "", "tls-client-key-file-pass": "", "tls-cluster": "no",
    "tls-dh-params-file": "", "tls-key-file-pass": "", "tls-prefer-server-ciphers": "no", "tls-protocols": "",
    "tls-session-cache-size": "20480", "tls-session-cache-timeout": "300", "tls-session-caching": "yes",
    "tracking-table-max-keys": "1000000", "unixsocketperm": "0", "zset-max-listpack-entries": "128",
    "zset-max-listpack-value": "64",
}
# What differs from the first: other values, new settings, and None for a setting that is gone.
_REDIS_8_0: dict[str, str | None] = {
    "aof-disable-auto-gc": None, "cluster-announce-human-nodename": "", "cluster-compatibility-sample-ratio": "0",
    "hide-user-data-from-log": "no", "io-threads-do-reads": None, "locale-collate": "",
    "max-new-connections-per-cycle": "10", "max-new-tls-connections-per-cycle": "1",
    "replica-full-sync-buffer-limit": "0", "set-max-listpack-entries": "128", "set-max-listpack-value": "64",
}
_VALKEY_8_1: dict[str, str | None] = {
    "active-defrag-cycle-us": "500", "aof-disable-auto-gc": None, "availability-zone": "",
    "cluster-announce-client-ipv4": "", "cluster-announce-client-ipv6": "", "cluster-announce-human-nodename": "",
    "cluster-blacklist-ttl": "60", "cluster-manual-failover-timeout": "5000", "cluster-slot-stats-enabled": "no",
    "commandlog-large-reply-max-len": "128", "commandlog-large-request-max-len": "128",
    "commandlog-reply-larger-than": "1048576", "commandlog-request-larger-than": "1048576",
    "dual-channel-replication-enabled": "no", "dynamic-hz": None, "extended-redis-compatibility": "no",
    "hide-user-data-from-log": "yes", "import-mode": "no", "io-threads-do-reads": None, "lazyfree-lazy-eviction": "yes",
    "lazyfree-lazy-expire": "yes", "lazyfree-lazy-server-del": "yes", "lazyfree-lazy-user-del": "yes",
    "lazyfree-lazy-user-flush": "yes", "locale-collate": "", "log-format": "legacy", "log-timestamp-format": "legacy",
    "max-new-connections-per-cycle": "10", "max-new-tls-connections-per-cycle": "1", "prefetch-batch-max-size": "16",
    "rdb-version-check": "strict", "rdma-bind": "", "rdma-completion-vector": "-1", "rdma-port": "0",
    "rdma-rx-size": "1048576", "repl-backlog-size": "10485760", "replica-lazy-flush": "yes",
    "set-max-listpack-entries": "128", "set-max-listpack-value": "64", "syslog-ident": "valkey", "unixsocketgroup": "",
}
# fmt: on
_TABLES: dict[tuple[RedisServer, tuple[int, int]], dict[str, str | None]] = {
    ("redis", (7, 0)): _REDIS_7_0,
    ("redis", (8, 0)): _REDIS_7_0 | _REDIS_8_0,
    ("valkey", (8, 1)): _REDIS_7_0 | _VALKEY_8_1,
}
_ALIASES = re.compile(
    r"slave|ziplist|^lua-time-limit$|-cpulist$|^primary(auth|user)$|^commandlog-(execution-slower|slow-execution)"
)


def is_alias(name: str) -> bool:
    """Return whether `name` is the second name of a setting, which has its first one on every server."""
    return _ALIASES.search(name) is not None


def defaults(server: Server) -> dict[str, str]:
    """Return the settings of `server` and what each is when nothing is said; of the newest known one before it."""
    known = [version for name, version in _TABLES if name == server.name]
    version = max((v for v in known if v <= server.version), default=min(known))
    return {name: value for name, value in _TABLES[server.name, version].items() if value is not None}


def unknown_to(name: str) -> list[str]:
    """Return the servers, such as "Redis 7.0", that have no setting `name`, in the order of the tables."""
    return [str(Server(server, version)) for (server, version), table in _TABLES.items() if table.get(name) is None]


def names() -> list[str]:
    """Return the settings that at least one server knows."""
    return sorted({name for table in _TABLES.values() for name, value in table.items() if value is not None})
