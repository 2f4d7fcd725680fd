"""Does MongoDB let in only who proves its identity, over TLS?"""

import ssl
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError

from dbkeep.checks.access import Access
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment, Host

SITE = "run playbooks/site.yml (role mongodb); mongod.conf is made from the inventory"
UNAUTHORIZED = 13
LOGON_REFUSED = 18


def code_of(error: PyMongoError) -> str:
    """Return the server's error code, or the kind of the driver's error."""
    return f"code {error.code}" if isinstance(error, OperationFailure) else type(error).__name__


@control(
    "MG-AUTH-01",
    "Without a logon the server answers nothing about data, users or settings",
    severity="critical",
    sources=("CIS MongoDB 7 2.1", "STIG SV-252150"),
    fix=SITE,
)
def test_authentication_is_required(
    access: Access, target: Host, mongodb_facts: dict[str, Any], observe: Observe
) -> None:
    security = mongodb_facts["options"].get("security", {})
    observe(authorization=security.get("authorization"), keyfile="keyFile" in security)
    answered = []
    with access.mongodb(target, None) as client:
        observe(hello=bool(client.admin.command("hello")["ok"]))
        for database, command in (
            ("chat", {"find": "messages", "limit": 1}),
            ("admin", {"listDatabases": 1}),
            ("admin", {"usersInfo": 1}),
            ("admin", {"getCmdLineOpts": 1}),
            ("chat", {"listCollections": 1}),
        ):
            name = next(iter(command))
            try:
                client[database].command(command)
                answered.append(name)
            except OperationFailure as error:
                observe(**{name: code_of(error)})
                if error.code != UNAUTHORIZED:
                    answered.append(f"{name} ({code_of(error)})")
    assert not answered, f"answered without a logon: {', '.join(answered)}"


@control(
    "MG-AUTH-02",
    "The localhost exception is off: the first user cannot be made by whoever comes first",
    severity="high",
    sources=("CIS MongoDB 7 2.2",),
    fix=SITE,
)
def test_localhost_exception(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    value = mongodb_facts["parameters"]["enableLocalhostAuthBypass"]
    observe(enableLocalhostAuthBypass=value)
    assert value is False, f"enableLocalhostAuthBypass is {value}"


@control(
    "MG-AUTH-04",
    "Passwords are proved by SCRAM-SHA-256 only",
    severity="high",
    sources=("STIG SV-252159", "RFC 7677"),
    fix="run playbooks/site.yml (authenticationMechanisms), then `dbkeep apply mongodb` to set the passwords again",
)
def test_mechanisms(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    offered = mongodb_facts["parameters"]["authenticationMechanisms"]
    users = {user["name"]: user["mechanisms"] for user in mongodb_facts["users"] if user["database"] != "$external"}
    observe(offered=offered, users=users)
    assert users, "there is no user with a password"
    weak = set(offered) - {"SCRAM-SHA-256", "MONGODB-X509"}
    assert not weak, f"the server offers {', '.join(sorted(weak))}"
    old = [name for name, mechanisms in users.items() if mechanisms != ["SCRAM-SHA-256"]]
    assert not old, f"also kept for another mechanism: {', '.join(old)}"


@control(
    "MG-AUTH-06",
    "Members know each other by a keyfile that nobody else can read, and a wrong key opens nothing",
    severity="critical",
    sources=("CIS MongoDB 7 2.3", "CIS MongoDB 7 7.1", "STIG SV-252160"),
    fix=f"{SITE}; a keyfile that others could read is replaced: take mongodb_keyfile out of the vault, dbkeep init",
)
def test_members_need_the_keyfile(
    access: Access, target: Host, mongodb_facts: dict[str, Any], observe: Observe
) -> None:
    security = mongodb_facts["options"].get("security", {})
    path = security.get("keyFile")
    file = mongodb_facts["files"].get(path)
    observe(mode=security.get("clusterAuthMode"), keyfile=path, file=file)
    assert path, "the members need no key"
    assert security.get("clusterAuthMode") in ("keyFile", "x509"), f"they are let in by {security['clusterAuthMode']}"
    assert file, f"{path} is not there"
    assert not int(file["mode"], 8) & 0o077, f"{path} has the mode {file['mode']}"
    wrong = {"username": "__system", "password": "wrong", "authSource": "local", "authMechanism": "SCRAM-SHA-256"}
    refused = False
    with access.mongodb(target, None, **wrong) as client:
        try:
            client.admin.command("ping")
        except OperationFailure as error:
            observe(wrong_key=code_of(error))
            refused = error.code == LOGON_REFUSED
    assert refused, "a wrong key is not refused as one"


@control(
    "MG-AUTH-09",
    "A wrong password, an unknown user and a wrong database are refused",
    severity="critical",
    sources=("CIS MongoDB 7 2.1", "RFC 5802"),
    fix=SITE,
)
def test_wrong_password_is_refused(access: Access, target: Host, environment: Environment, observe: Observe) -> None:
    password = environment.secrets["mongodb"]["chat_api"]
    with access.mongodb(target, "chat_api") as client:
        observe(right_password=bool(client.chat.command("ping")["ok"]))
    let_in = []
    for name, options in (
        ("wrong password", {"password": "wrong"}),
        ("unknown user", {"username": "nobody", "password": password}),
        ("wrong database", {"authSource": "chat"}),
        ("SHA-1", {"authMechanism": "SCRAM-SHA-1"}),
    ):
        with access.mongodb(target, "chat_api", **options) as client:
            try:
                client.chat.command("ping")
                let_in.append(name)
            except OperationFailure as error:
                observe(**{name.replace(" ", "_"): code_of(error)})
    assert not let_in, f"chat_api is let in with: {', '.join(let_in)}"


@control(
    "MG-TLS-01",
    "A connection without TLS is refused",
    severity="critical",
    sources=("CIS MongoDB 7 4.3", "STIG SV-252139"),
    fix=SITE,
)
def test_plaintext_is_refused(access: Access, target: Host, mongodb_facts: dict[str, Any], observe: Observe) -> None:
    observe(mode=mongodb_facts["options"].get("net", {}).get("tls", {}).get("mode"))
    with access.mongodb(target, None) as client:
        observe(tls=bool(client.admin.command("hello")["ok"]))
    with access.mongodb(target, None, tls=False, tlsCAFile=None, serverSelectionTimeoutMS=1000) as client:
        try:
            client.admin.command("hello")
        except PyMongoError as error:
            observe(plaintext=type(error).__name__)
        else:
            raise AssertionError("the server talks to a client without TLS")


@control(
    "MG-TLS-02",
    "TLS older than 1.2 is refused",
    severity="high",
    sources=("CIS MongoDB 7 4.1", "RFC 8996"),
    fix=SITE,
)
def test_old_tls_is_refused(access: Access, target: Host, observe: Observe) -> None:
    best = access.tls_version(target, "mongodb_port", at_most=ssl.TLSVersion.MAXIMUM_SUPPORTED)
    old = access.tls_version(target, "mongodb_port", at_most=ssl.TLSVersion.TLSv1_1)
    observe(best=best, offered_tls_1_1=old)
    assert best in ("TLSv1.2", "TLSv1.3"), f"the server agrees to no TLS at all ({best}): the probe would prove nothing"
    assert old is None, f"the server agrees to {old}"


@control(
    "MG-TLS-03",
    "The server accepts no invalid certificate and no wrong name",
    severity="high",
    sources=("STIG SV-252178",),
    fix=SITE,
)
def test_no_certificate_allowance(mongodb_facts: dict[str, Any], observe: Observe) -> None:
    tls = mongodb_facts["options"].get("net", {}).get("tls", {})
    allowances = {
        name: value for name, value in tls.items() if name.startswith("allow") and "ConnectionsWithout" not in name
    }
    observe(mode=tls.get("mode"), allowances=allowances)
    assert tls.get("mode") == "requireTLS", f"net.tls.mode is {tls.get('mode')}"
    assert not any(allowances.values()), f"set: {', '.join(name for name, value in allowances.items() if value)}"
