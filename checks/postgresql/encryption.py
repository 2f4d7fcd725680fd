"""Is every connection to PostgreSQL encrypted, to a server that proves its name?"""

import ssl
from typing import Any

import psycopg

from dbkeep.checks.access import POSTGRESQL_TLS_REQUEST, Access
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host


@control(
    "PG-TLS-01",
    "A logon without TLS is refused",
    severity="critical",
    sources=("CIS PostgreSQL 17 6.8", "STIG SV-261900", "DevSec postgres-11"),
    fix="set ssl = on and make every network rule of pg_hba.conf hostssl (run playbooks/site.yml)",
)
def test_plaintext_is_refused(access: Access, target: Host, observe: Observe) -> None:
    with access.postgresql(target, "app_api") as connection:
        row = connection.execute("SELECT ssl, version, bits FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row is not None
    observe(tls=row[0], version=row[1], bits=row[2])
    try:
        with access.postgresql(target, "app_api", sslmode="disable"):
            observe(plaintext="accepted")
    except psycopg.OperationalError as error:
        observe(plaintext=str(error).strip().splitlines()[-1].rpartition("FATAL:")[2].strip())
    else:
        raise AssertionError("app_api logs on without TLS")
    assert row[0], "the session of app_api is not encrypted"


@control(
    "PG-TLS-02",
    "TLS older than 1.2 is refused",
    severity="high",
    sources=("CIS PostgreSQL 17 6.8", "STIG SV-261928", "RFC 8996"),
    fix="set ssl_min_protocol_version = 'TLSv1.2' or newer (run playbooks/site.yml)",
)
def test_old_tls_is_refused(access: Access, target: Host, postgresql_facts: dict[str, Any], observe: Observe) -> None:
    best, old = (
        access.tls_version(target, "postgresql_port", at_most=version, request=POSTGRESQL_TLS_REQUEST)
        for version in (ssl.TLSVersion.MAXIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1)
    )
    observe(best=best, offered_tls_1_1=old, minimum=postgresql_facts["settings"]["ssl_min_protocol_version"])
    assert best in ("TLSv1.2", "TLSv1.3"), f"the server agrees to no TLS at all ({best}): the probe would prove nothing"
    assert old is None, f"the server agrees to {old}"


@control(
    "PG-TLS-03",
    "Ciphers without forward secrecy or authenticated encryption are refused",
    severity="high",
    sources=("CIS PostgreSQL 17 6.10", "DevSec postgres-12", "RFC 9325 4.2"),
    fix="set ssl_ciphers as in sql/settings.yml (dbkeep apply postgresql)",
)
def test_weak_ciphers_are_refused(
    access: Access, target: Host, postgresql_facts: dict[str, Any], observe: Observe
) -> None:
    strong, weak = (
        access.tls_version(
            target, "postgresql_port", at_most=ssl.TLSVersion.TLSv1_2, ciphers=ciphers, request=POSTGRESQL_TLS_REQUEST
        )
        for ciphers in ("ECDHE+AESGCM", "ALL:!AESGCM:!CHACHA20:!AESCCM")
    )
    observe(strong=strong, weak=weak, ciphers=postgresql_facts["settings"]["ssl_ciphers"])
    assert strong == "TLSv1.2", f"the server agrees to no good cipher ({strong}): the probe would prove nothing"
    assert weak is None, f"the server agrees to {weak} with a weak cipher"


@control(
    "PG-TLS-05",
    "The server proves its name with a certificate of the environment's authority",
    severity="high",
    sources=("STIG SV-261893", "PostgreSQL manual 34.19.1 Client Verification of Server Certificates"),
    fix="run playbooks/site.yml (role tls): the certificate must name the host and be signed by the environment's CA",
)
def test_certificate_is_verified(access: Access, target: Host, observe: Observe) -> None:
    with access.postgresql(target, "app_api") as connection:
        observe(verify_full=connection.info.status.name)
    try:
        with access.postgresql(target, "app_api", server_name="another.name.invalid"):
            observe(another_name="accepted")
    except psycopg.OperationalError as error:
        observe(another_name=str(error).strip().splitlines()[-1])
    else:
        raise AssertionError("a client that expects another name accepts the certificate")


@control(
    "PG-TLS-06",
    "No session from the network runs without TLS right now",
    severity="high",
    sources=("STIG SV-261932",),
    fix="end the session (pg_terminate_backend) and close the rule that let it in",
)
def test_no_plaintext_session(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    sessions = postgresql_facts["remote_plaintext"]
    observe(plaintext_sessions=sessions)
    assert not sessions, "; ".join(f"{s['role']} from {s['address']} (pid {s['pid']})" for s in sessions)
