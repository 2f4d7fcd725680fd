"""PostgreSQL, broken."""

from .shell import Breakage, as_root, psql

HBA = "$(echo /etc/postgresql/*/main/pg_hba.conf)"
RELOAD = "sudo -u postgres psql -qAtc 'SELECT pg_reload_conf()' >/dev/null"


def alter_system(**values: str) -> str:
    statements = (f"ALTER SYSTEM SET {name.replace('__', '.')} = {value}" for name, value in values.items())
    return " && ".join((*map(psql, statements), RELOAD))


POSTGRESQL = (
    Breakage(
        (
            *("PG-HBA-01", "PG-HBA-02", "PG-HBA-03", "PG-HBA-04", "PG-HBA-05", "PG-HBA-06", "PG-HBA-07", "PG-HBA-09"),
            *("PG-TLS-01", "PG-AUTH-07", "PG-SET-02"),
        ),
        as_root(
            f"echo hostssl chat app_api 192.0.2.0/24 md5 >> {HBA} && echo local chat app_api scram-sha-256 >> {HBA}"
            f" && sed -i '1i hostssl chat app_api 0.0.0.0/0 trust' {HBA} && echo host all all 0.0.0.0/0 trust >> {HBA}"
            f" && echo host replication app_api 192.0.2.0/24 scram-sha-256 >> {HBA}"
        )
        + f" && {RELOAD}",
    ),
    Breakage(
        ("PG-TLS-06",),
        'sudo systemd-run -q --unit probe-session psql "host=$(hostname -I | cut -d" " -f1) sslmode=disable dbname=chat'
        ' user=chat_monitor options=-cstatement_timeout=0" -c "SELECT pg_sleep(600)"; sleep 0.5',
        "sudo systemctl stop probe-session",
    ),
    # After the reload: a file with an error is not read at all.
    Breakage(("PG-HBA-08",), as_root(f"echo hostssl nonsense >> {HBA}")),
    Breakage(
        (
            *("PG-LOG-05", "PG-LOG-02", "PG-LOG-06", "PG-LOG-07", "PG-LOG-08", "PG-BAK-03", "PG-SET-01", "PG-SET-02"),
            *("PG-AUTH-05", "PG-TLS-03"),
        ),
        alter_system(
            log_parameter_max_length="-1",
            log_disconnections="off",
            pgaudit__log="none",
            log_hostname="on",
            log_lock_waits="off",
            full_page_writes="off",
            zero_damaged_pages="on",
            authentication_timeout="600",
            ssl_ciphers="'ALL'",
        ),
    ),
    Breakage(
        ("PG-LOG-10",),
        as_root("mv /etc/logrotate.d/postgresql-common /root/"),
        as_root("mv /root/postgresql-common /etc/logrotate.d/"),
    ),
    Breakage(
        ("PG-REP-01",),
        psql("SELECT FROM pg_create_physical_replication_slot('probe')"),
        psql("SELECT FROM pg_drop_replication_slot('probe')"),
    ),
    Breakage(("PG-PRIV-15",), psql("GRANT SET ON PARAMETER log_statement TO app_api")),
    Breakage(
        ("PG-LOG-01", "PG-NET-02"),
        as_root("chmod o+r /var/log/postgresql/*.log && chmod 0777 /run/postgresql/.s.PGSQL.5432"),
        as_root("chmod o-r /var/log/postgresql/*.log && chmod 0770 /run/postgresql/.s.PGSQL.5432"),
    ),
    Breakage(("PG-AUTH-01",), psql("SET password_encryption = md5; ALTER ROLE chat_audit PASSWORD 'probe'")),
    Breakage(("PG-PRIV-10",), psql("ALTER TABLE chat.refresh_tokens OWNER TO chat_migrator")),
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
    Breakage(("ISO-KEYS-01",), psql("GRANT SELECT (password_hash) ON chat.users TO app_keys")),
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
