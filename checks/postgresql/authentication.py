"""Does PostgreSQL let in only who proves its identity, as the role it is?"""

import ipaddress
from typing import Any

import psycopg

from dbkeep.checks.access import Access
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Host

HBA_FIX = "run playbooks/site.yml (role postgresql): pg_hba.conf is made from the inventory"


def rules_as_text(rules: list[dict[str, Any]]) -> str:
    return "; ".join(
        f"line {rule['line_number']}: {rule['type']} {','.join(rule['database'])} {','.join(rule['user_name'])}"
        f" {rule['address'] or ''} {rule['auth_method']}"
        for rule in rules
    )


def accepting(postgresql_facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the client authentication rules that may let someone in."""
    rules = [rule for rule in postgresql_facts["hba"] if not rule["error"] and rule["auth_method"] != "reject"]
    assert rules, "pg_hba.conf lets nobody in: the observation is wrong"
    return rules


@control(
    "PG-HBA-01",
    "No rule lets anyone in without proof of identity",
    severity="critical",
    sources=("CIS PostgreSQL 17 5", "STIG SV-261890", "DevSec postgres-14"),
    fix=HBA_FIX,
)
def test_no_trust(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    rules = accepting(postgresql_facts)
    observe(methods=sorted({rule["auth_method"] for rule in rules}), rules=len(rules))
    trusting = [rule for rule in rules if rule["auth_method"] == "trust"]
    assert not trusting, f"trust in {rules_as_text(trusting)}"


@control(
    "PG-HBA-02",
    "No rule accepts a weak proof: clear text, MD5 or ident",
    severity="high",
    sources=("STIG SV-261892", "CIS PostgreSQL 17 5"),
    fix=HBA_FIX,
)
def test_no_weak_method(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    rules = accepting(postgresql_facts)
    observe(methods=sorted({rule["auth_method"] for rule in rules}))
    weak = [rule for rule in rules if rule["auth_method"] not in ("scram-sha-256", "cert", "peer", "trust")]
    assert not weak, f"weak: {rules_as_text(weak)}"


@control(
    "PG-HBA-03",
    "Every rule for the network demands TLS",
    severity="high",
    sources=("STIG SV-261926", "DevSec postgres-15"),
    fix=HBA_FIX,
)
def test_network_rules_demand_tls(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    rules = [rule for rule in accepting(postgresql_facts) if rule["type"] != "local"]
    observe(types=sorted({rule["type"] for rule in rules}), rules=len(rules))
    assert rules, "no rule lets the application in over the network"
    plain = [rule for rule in rules if rule["type"] != "hostssl"]
    assert not plain, f"without TLS: {rules_as_text(plain)}"


@control(
    "PG-HBA-04",
    "Rules for the network name their databases, roles and addresses",
    severity="high",
    sources=("pgdsat 5.9", "PostgreSQL manual 21.1 The pg_hba.conf File"),
    fix=HBA_FIX,
)
def test_network_rules_are_narrow(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    rules = [rule for rule in accepting(postgresql_facts) if rule["type"] != "local"]
    observe(rules=[rules_as_text([rule]) for rule in rules])
    wide = [rule for rule in rules if "all" in (*rule["database"], *rule["user_name"]) or is_wide(rule)]
    assert rules, "no rule lets the application in over the network"
    assert not wide, f"too wide: {rules_as_text(wide)}"


def is_wide(rule: dict[str, Any]) -> bool:
    """Whether a rule's address is every address or a network of more than 65536."""
    address, netmask = rule["address"], rule["netmask"]
    if address in ("all", "samenet", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return True
    if netmask is None:
        return False
    free_bits = ipaddress.ip_address(netmask).max_prefixlen - int(ipaddress.ip_address(netmask)).bit_count()
    return free_bits > 16


@control(
    "PG-HBA-05",
    "Every rule names its databases and roles: none says `all`",
    severity="medium",
    sources=("pgdsat 5.10",),
    fix=HBA_FIX,
)
def test_rules_name_databases_and_roles(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    rules = accepting(postgresql_facts)
    observe(rules=[rules_as_text([rule]) for rule in rules])
    words = {"all", "sameuser", "samerole", "samegroup"}
    wide = [rule for rule in rules if words.intersection((*rule["database"], *rule["user_name"]))]
    assert not wide, f"too wide: {rules_as_text(wide)}"


@control(
    "PG-HBA-07",
    "Only a role for replication may ask for the replication protocol, and with TLS; at the socket the superuser may",
    severity="high",
    sources=("CIS PostgreSQL 17 7.1",),
    fix=HBA_FIX,
)
def test_replication_is_for_its_role(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    replicating = {role["name"] for role in postgresql_facts["roles"] if role["replication"] and not role["superuser"]}
    rules = [rule for rule in accepting(postgresql_facts) if "replication" in rule["database"]]
    observe(roles=sorted(replicating), rules=[rules_as_text([rule]) for rule in rules])
    # Who is the superuser already gains nothing by it: pg_basebackup of the host's own backup.
    remote = [rule for rule in rules if rule["type"] != "local" or rule["user_name"] != ["postgres"]]
    wrong = [rule for rule in remote if rule["type"] != "hostssl" or not replicating.issuperset(rule["user_name"])]
    assert not wrong, f"replication for others: {rules_as_text(wrong)}"


@control(
    "PG-HBA-09",
    "On the socket the operating system says who it is, and a map who that may be",
    severity="high",
    sources=("DevSec postgres-13", "PostgreSQL manual 21.2 User Name Maps"),
    fix=HBA_FIX,
)
def test_socket_is_for_mapped_users(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    rules = [rule for rule in accepting(postgresql_facts) if rule["type"] == "local"]
    users = sorted({f"{entry['sys_name']} as {entry['role']}" for entry in postgresql_facts["socket_users"]})
    observe(rules=[rules_as_text([rule]) for rule in rules], users=users)
    assert rules, "nobody may use the socket: the agent could not work"
    open_rules = [
        rule for rule in rules
        if rule["auth_method"] != "peer" or not any(option.startswith("map=") for option in rule["options"] or ())
    ]  # fmt: skip
    assert not open_rules, f"not peer with a map: {rules_as_text(open_rules)}"
    strangers = [user for user in users if user not in ("root as postgres", "postgres as postgres")]
    assert not strangers, f"may log on as somebody else: {', '.join(strangers)}"


@control(
    "PG-HBA-08",
    "Configuration files are free of errors: what is in force is what they say",
    severity="high",
    sources=("PostgreSQL manual 54: pg_hba_file_rules, pg_file_settings",),
    fix="correct the named line (run playbooks/site.yml) and reload",
)
def test_files_are_correct(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    wrong = [
        f"pg_hba.conf line {rule['line_number']}: {rule['error']}" for rule in postgresql_facts["hba"] if rule["error"]
    ]
    wrong += [
        f"{e['sourcefile']}:{e['sourceline']}: {e['name']}: {e['error']}" for e in postgresql_facts["file_errors"]
    ]
    observe(rules=len(postgresql_facts["hba"]), errors=wrong)
    assert not wrong, "; ".join(wrong)


@control(
    "PG-AUTH-01",
    "Every password is kept as a SCRAM-SHA-256 verifier",
    severity="critical",
    sources=("STIG SV-261891", "DevSec postgres-07"),
    fix="run `dbkeep apply postgresql`: it sets verifiers made on the controller",
)
def test_verifiers_are_scram(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    verifiers = {role["name"]: role["verifier"] for role in postgresql_facts["roles"]}
    encryption = postgresql_facts["settings"]["password_encryption"]
    observe(password_encryption=encryption, **verifiers)
    assert encryption == "scram-sha-256", f"password_encryption is {encryption}"
    assert "scram" in verifiers.values(), "no role has a password"
    weak = [name for name, kind in verifiers.items() if kind == "other"]
    assert not weak, f"not SCRAM: {', '.join(weak)}"


@control(
    "PG-AUTH-05",
    "Who does not prove an identity is sent away within a minute",
    severity="low",
    sources=("pgdsat 5.7",),
    fix="set authentication_timeout as in sql/settings.yml (dbkeep apply postgresql)",
)
def test_logons_end_soon(postgresql_facts: dict[str, Any], observe: Observe) -> None:
    seconds = int(postgresql_facts["settings"]["authentication_timeout"])
    observe(authentication_timeout=seconds)
    assert seconds <= 60, f"authentication_timeout is {seconds} s"


@control(
    "PG-AUTH-07",
    "A wrong password and no password are refused",
    severity="critical",
    sources=("STIG SV-261890", "RFC 5802"),
    fix=HBA_FIX,
)
def test_wrong_password_is_refused(access: Access, target: Host, observe: Observe) -> None:
    accepted = []
    with access.postgresql(target, "app_api"):
        observe(right_password="accepted")  # noqa: S106 - an observation
    for name, password in (("a wrong password", "wrong"), ("an empty password", ""), ("no password", None)):
        outcome = try_to_connect(access, target, "app_api", password=password)
        observe(**{name.replace(" ", "_"): outcome})
        if outcome == "accepted":
            accepted.append(name)
    assert not accepted, f"app_api is let in with {', '.join(accepted)}"


@control(
    "PG-HBA-06",
    "The superuser cannot log on over the network",
    severity="high",
    sources=("pgdsat 5.11", "PostgreSQL manual 21.1 The pg_hba.conf File"),
    fix=HBA_FIX,
)
def test_superuser_stays_local(
    access: Access, target: Host, postgresql_facts: dict[str, Any], observe: Observe
) -> None:
    let_in = []
    superusers = [role["name"] for role in postgresql_facts["roles"] if role["superuser"]]
    assert superusers, "no superuser exists: the observation is wrong"
    for name in superusers:
        outcome = try_to_connect(access, target, name, password="wrong", dbname="postgres")  # noqa: S106
        observe(**{name: outcome})
        # Asked for a password means that a rule matched: only the password stands between them and the server.
        if outcome == "accepted" or "password authentication failed" in outcome:
            let_in.append(f"{name} ({outcome})")
    assert not let_in, f"a rule lets superusers try: {', '.join(let_in)}"


def try_to_connect(access: Access, target: Host, role: str, **options: Any) -> str:
    """Return "accepted", or the server's words of refusal."""
    try:
        with access.postgresql(target, role, **options):
            return "accepted"
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1].rpartition("FATAL:")[2].strip()
