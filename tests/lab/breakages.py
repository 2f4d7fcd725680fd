"""Ways to break a host by hand, what repairs each, and the controls that must notice.

`dbkeep apply` repairs what is declared state (no `repair`); the rest is put back by its own command.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Breakage:
    controls: tuple[str, ...]
    command: str
    repair: str | None = None


def as_root(command: str) -> str:
    return f"sudo sh -c {shlex.quote(command)}"


def psql(statement: str) -> str:
    return f"sudo -u postgres psql -q -v ON_ERROR_STOP=1 -d chat -c {shlex.quote(statement)}"


def mongo(code: str) -> str:
    head = (
        "import json, pathlib, pymongo\n"
        "s = json.loads(pathlib.Path('/etc/dbkeep/agent.d/mongodb.json').read_text())\n"
        "client = pymongo.MongoClient(s['host'], s['port'], tls=True, tlsCAFile=s['ca_file'], directConnection=True,"
        " tlsCertificateKeyFile=s['certificate_key_file'], authMechanism='MONGODB-X509', authSource='$external')\n"
        "admin, chat = client.admin, client.chat\n"
    )
    return f"sudo /opt/dbkeep/venv/bin/python -c {shlex.quote(head + code)}"


def redis(instance: str, command: str) -> str:
    inner = (
        f'REDISCLI_AUTH="$(cat /etc/dbkeep/secrets/redis-admin)" redis-cli -e -s /run/redis-{instance}/redis.sock'
        f" --user admin {command}"
    )
    return as_root(inner)


HBA = "$(echo /etc/postgresql/*/main/pg_hba.conf)"
RELOAD = "sudo -u postgres psql -qAtc 'SELECT pg_reload_conf()' >/dev/null"
TIMER = "dbkeep-backup.timer"
SETS = "/var/lib/dbkeep/backup/sets"
DRILLS = "/var/lib/dbkeep/evidence"

HOST = (
    Breakage(
        ("OS-01",),
        "sudo systemd-run -q --unit probe-listener python3 -m http.server 9999",
        "sudo systemctl stop probe-listener",
    ),
    Breakage(
        ("OS-02", "OS-02-PROBE"),
        "sudo nft 'chain inet dbkeep input { policy accept; }'",
        "sudo nft 'chain inet dbkeep input { policy drop; }'",
    ),
    Breakage(
        ("OS-03",),
        "sudo install -D -o redis -m 600 /dev/null /var/lib/redis/.ssh/authorized_keys",
        "sudo rm -r /var/lib/redis/.ssh",
    ),
    Breakage(
        ("OS-04",),
        "sudo install -d /etc/systemd/system/mongod.service.d && printf '[Service]\\nNoNewPrivileges=no\\n'"
        " | sudo tee /etc/systemd/system/mongod.service.d/zz-probe.conf >/dev/null && sudo systemctl daemon-reload",
        "sudo rm /etc/systemd/system/mongod.service.d/zz-probe.conf && sudo systemctl daemon-reload",
    ),
    Breakage(
        ("OS-05",),
        "sudo systemctl -q disable redis-server@cache",
        "sudo systemctl -q enable redis-server@cache",
    ),
    Breakage(
        ("OS-06",),
        "sudo install -d /run/systemd/system/chat-api.service.d && printf '[Service]\\nLimitCORE=infinity\\n'"
        " | sudo tee /run/systemd/system/chat-api.service.d/zz-probe.conf >/dev/null"
        " && sudo systemctl daemon-reload && sudo systemctl restart chat-api",
        "sudo rm /run/systemd/system/chat-api.service.d/zz-probe.conf"
        " && sudo systemctl daemon-reload && sudo systemctl restart chat-api",
    ),
    Breakage(
        ("OS-10",),
        "sudo sysctl -qw net.ipv4.conf.all.accept_redirects=1",
        "sudo sysctl -qw net.ipv4.conf.all.accept_redirects=0",
    ),
    Breakage(
        ("OS-11", "OS-11-PROBE"),
        "echo 'PasswordAuthentication yes' | sudo tee /etc/ssh/sshd_config.d/00-a-probe.conf >/dev/null"
        " && sudo systemctl reload ssh",
        "sudo rm /etc/ssh/sshd_config.d/00-a-probe.conf && sudo systemctl reload ssh",
    ),
    Breakage(
        ("OS-18",),
        "sudo install -m 644 /etc/chat_api/credentials/redis_svc_api /var/log/probe",
        "sudo rm /var/log/probe",
    ),
    Breakage(("OS-19",), "sudo chmod o+r /etc/dbkeep/tls/redis.key", "sudo chmod o-r /etc/dbkeep/tls/redis.key"),
    Breakage(
        ("OS-23",),
        "sudo systemd-run -q --unit probe-failure false; sleep 0.5",
        "sudo systemctl reset-failed probe-failure",
    ),
    Breakage(
        ("OS-24",),
        "sudo openssl req -x509 -newkey ed25519 -nodes -subj /CN=probe -days 7 -keyout /dev/null"
        " -out /etc/dbkeep/tls/probe.crt 2>/dev/null",
        "sudo rm /etc/dbkeep/tls/probe.crt",
    ),
)

POSTGRESQL = (
    Breakage(
        ("PG-HBA-01", "PG-HBA-02", "PG-HBA-03", "PG-HBA-04", "PG-HBA-06", "PG-TLS-01"),
        as_root(
            f"cp -p {HBA} /root/hba && echo hostssl chat app_api 192.0.2.0/24 md5 >> {HBA}"
            f" && echo host all all 0.0.0.0/0 trust >> {HBA}"
        )
        + f" && {RELOAD}",
        as_root(f"cat /root/hba > {HBA} && rm /root/hba") + f" && {RELOAD}",
    ),
    Breakage(
        ("PG-LOG-05", "PG-LOG-02"),
        psql("ALTER SYSTEM SET log_parameter_max_length = -1")
        + " && "
        + psql("ALTER SYSTEM SET log_disconnections = off")
        + f" && {RELOAD}",
        psql("ALTER SYSTEM RESET log_parameter_max_length")
        + " && "
        + psql("ALTER SYSTEM RESET log_disconnections")
        + f" && {RELOAD}",
    ),
    Breakage(
        ("PG-PRIV-01",),
        psql("CREATE ROLE probe SUPERUSER"),
        psql("DROP ROLE probe"),
    ),
    Breakage(("PG-AUTH-06",), psql("ALTER ROLE app_auth CONNECTION LIMIT -1")),
    Breakage(("PG-PRIV-02",), psql("ALTER ROLE chat_monitor CREATEDB")),
    Breakage(("PG-PRIV-03", "ISO-ROLE-01"), psql("GRANT chat_owner TO app_api")),
    Breakage(("PG-PRIV-04",), psql("GRANT CONNECT ON DATABASE chat TO PUBLIC")),
    Breakage(("PG-PRIV-05",), psql("GRANT EXECUTE ON FUNCTION chat.find_user TO PUBLIC")),
    Breakage(("PG-PRIV-07", "ISO-DDL-01"), psql("GRANT TRUNCATE ON chat.settings TO app_api")),
    Breakage(("PG-PRIV-12",), psql("ALTER FUNCTION chat.find_user RESET search_path")),
    Breakage(("PG-RLS-01", "PG-DRIFT"), psql("ALTER TABLE chat.profiles NO FORCE ROW LEVEL SECURITY")),
    Breakage(
        ("PG-RLS-03", "ISO-READ-01"),
        psql("CREATE POLICY probe ON chat.settings FOR SELECT TO PUBLIC USING (true)"),
    ),
    Breakage(
        ("PG-RLS-04", "ISO-CTX-01", "ISO-CTX-02", "ISO-CTX-03", "ISO-CTX-04", "ISO-READ-02"),
        psql("DROP POLICY floor ON chat.users; CREATE POLICY probe ON chat.users FOR SELECT TO app_api USING (true)"),
    ),
    Breakage(
        ("PG-RLS-05",),
        psql("CREATE VIEW chat.probe AS SELECT * FROM chat.users; GRANT SELECT ON chat.probe TO app_api"),
        psql("DROP VIEW chat.probe"),
    ),
    Breakage(
        ("ISO-WRITE-01",),
        psql("CREATE POLICY probe_insert ON chat.settings FOR INSERT TO app_api WITH CHECK (true)"),
    ),
    Breakage(
        ("ISO-WRITE-02",),
        psql("CREATE POLICY probe ON chat.profiles FOR UPDATE TO app_api USING (true) WITH CHECK (true)"),
    ),
    Breakage(("ISO-SECRET-01",), psql("GRANT SELECT (password_hash) ON chat.users TO app_api")),
    Breakage(("ISO-AUTH-01",), psql("GRANT SELECT ON chat.settings TO app_auth")),
    Breakage(
        ("ISO-ANALYTICS-01",),
        psql("GRANT USAGE ON SCHEMA chat TO chat_analytics; GRANT SELECT (id) ON chat.users TO chat_analytics"),
    ),
    Breakage(
        ("PG-FS-01",),
        as_root(f"chmod g+w {HBA}"),
        as_root(f"chmod g-w {HBA}"),
    ),
)

MONGODB = (
    Breakage(
        ("MG-RBAC-01", "MG-RBAC-04", "MG-DRIFT"),
        mongo("admin.command('grantRolesToUser', 'chat_analytics', roles=[{'role': 'readWrite', 'db': 'chat'}])"),
    ),
    Breakage(
        ("MG-RBAC-03", "MG-SCH-04"),
        mongo(
            "admin.command('grantPrivilegesToRole', 'chat_api', privileges=[{'resource': {'db': 'chat',"
            " 'collection': 'messages'}, 'actions': ['bypassDocumentValidation']}])"
        ),
    ),
    Breakage(("MG-SCH-01",), mongo("chat.command('collMod', 'conversations', validationLevel='moderate')")),
    Breakage(
        ("MG-SCH-02",),
        mongo("chat.notifications.insert_one({'_id': 1}, bypass_document_validation=True)"),
        mongo("chat.notifications.delete_one({'_id': 1})"),
    ),
    Breakage(
        ("MG-LOG-03",),
        mongo("chat.command('profile', 2)"),
        mongo("chat.command('profile', 0); chat.command('drop', 'system.profile')"),
    ),
    Breakage(("MG-FS-01",), "sudo chmod o+r /etc/mongod.conf", "sudo chmod o-r /etc/mongod.conf"),
)

REDIS = (
    Breakage(("RD-ACL-01",), redis("cache", "ACL SETUSER default on '>probe-probe' '~*' +@all")),
    Breakage(("RD-ACL-03", "RD-ACL-12", "RD-DRIFT"), redis("state", "ACL SETUSER svc_ws '~*'")),
    Breakage(("RD-ACL-05",), redis("state", "ACL SETUSER svc_auth +flushall")),
    Breakage(("RD-ACL-06",), redis("cache", "ACL SETUSER svc_api +keys '~dbkeep:*'")),
    Breakage(("RD-MEM-01",), redis("cache", "CONFIG SET maxmemory 0")),
    Breakage(("RD-MEM-02",), redis("state", "CONFIG SET maxmemory-policy allkeys-lru")),
    Breakage(("RD-PER-01",), redis("state", "CONFIG SET appendfsync no")),
    Breakage(("RD-PER-03",), redis("cache", "CONFIG SET save '3600 1'")),
    Breakage(("RD-PER-05",), redis("cache", "SET cache:probe 1"), redis("cache", "DEL cache:probe")),
    Breakage(
        ("RD-FS-01",),
        "sudo chmod o+rx /var/lib/redis/state",
        "sudo chmod o-rx /var/lib/redis/state",
    ),
)

BACKUP = (
    Breakage(
        ("BK-01",),
        f"sudo find {SETS} -mindepth 2 -maxdepth 2 -name mongodb -exec mv {{}} {{}}.away \\;",
        f"sudo find {SETS} -mindepth 2 -maxdepth 2 -name mongodb.away"
        ' -exec sh -c \'mv "$1" "${1%.away}"\' sh {} \\;',
    ),
    Breakage(
        ("BK-02",),
        f"sudo find {SETS} -path '*/redis/*' -name '*.age' -exec cp -p {{}} {{}}.kept \\;"
        " -exec sh -c 'printf readable | dd of=\"$1\" conv=notrunc status=none' sh {} \\;",
        f"sudo find {SETS} -path '*/redis/*' -name '*.kept' -exec sh -c 'mv \"$1\" \"${{1%.kept}}\"' sh {{}} \\;",
    ),
    Breakage(("BK-03",), f"sudo systemctl -q disable --now {TIMER}", f"sudo systemctl -q enable --now {TIMER}"),
    Breakage(
        ("BK-04",),
        f"sudo sh -c 'mkdir {DRILLS}/away && mv {DRILLS}/drill-*.json {DRILLS}/away'",
        f"sudo sh -c 'mv {DRILLS}/away/* {DRILLS} && rmdir {DRILLS}/away'",
    ),
    Breakage(("BK-05",), f"sudo chmod o+rx {SETS}", f"sudo chmod o-rx {SETS}"),
    Breakage(
        ("BK-06",),
        "printf 'AGE-SECRET-KEY-1%058d\\n' 0 | tr 0 Q | sudo tee /root/probe-key >/dev/null",
        "sudo rm /root/probe-key",
    ),
)

ALL = (*HOST, *POSTGRESQL, *MONGODB, *REDIS, *BACKUP)
