"""Does Redis let in only who proves its identity, over TLS?"""

import ssl
from typing import Any

import redis

from dbkeep.checks.access import INSTANCES, Access
from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment, Host

APPLY = "run `dbkeep drift redis`, then `dbkeep apply redis`; users are in redis/acl.yml"
SITE = "run playbooks/site.yml (role redis); a setting that needs a restart is restarted only when that is allowed"


def answer_to(client: redis.Redis, *words: str) -> str:
    """Return what the server says to a command, its refusal included."""
    try:
        return str(client.execute_command(*words))  # type: ignore[no-untyped-call]
    except redis.RedisError as error:
        return f"{type(error).__name__}: {error}"


@control(
    "RD-ACL-01",
    "The default user is off: nobody gets an answer without a logon",
    severity="critical",
    sources=("STIG V-251187", "Redis manual: ACL"),
    fix=APPLY,
)
def test_default_user_is_off(access: Access, target: Host, redis_facts: dict[str, Any], observe: Observe) -> None:
    answered = []
    for name in INSTANCES:
        user = redis_facts["instances"][name]["users"].get("default", {"flags": ["missing"]})
        with access.redis(target, name, None) as client:
            answers = {
                word: answer_to(client, *word.split()) for word in ("PING", "DBSIZE", "INFO server", "ACL WHOAMI")
            }
        observe(**{name: {"flags": user["flags"], **answers}})
        answered += [
            f"{name}: {word}"
            for word, answer in answers.items()
            if "NOAUTH" not in answer and "Authentication required" not in answer
        ]
        if "off" not in user["flags"] or "nopass" in user["flags"]:
            answered.append(f"{name}: the default user is {', '.join(user['flags'])}")
    assert not answered, f"without a logon: {'; '.join(answered)}"


@control(
    "RD-ACL-02",
    "Passwords are kept as digests, in a file that only the server writes and nobody else reads",
    severity="high",
    sources=("redis-baseline 11, 37", "Redis manual: ACL, external ACL file"),
    fix="run playbooks/site.yml (role redis) for its mode, `dbkeep apply redis` for what it holds",
)
def test_acl_file(redis_facts: dict[str, Any], target: Host, observe: Observe) -> None:
    # Each server runs as the account of its own name.
    wrong, account = [], target.variables.get("redis_server", "redis")
    for name in INSTANCES:
        file = redis_facts["instances"][name]["acl_file"]
        observe(**{name: file})
        assert file["digests"], f"{name}: no password stands in the ACL file: the observation is wrong"
        if file["in_clear"]:
            wrong.append(f"{name}: {file['in_clear']} passwords in clear")
        if int(file["mode"], 8) & ~0o640 or file["owner"] != account:
            wrong.append(f"{name}: mode {file['mode']}, owner {file['owner']}")
    assert not wrong, "; ".join(wrong)


@control(
    "RD-AUTH-01",
    "A wrong password and an unknown user are refused",
    severity="critical",
    sources=("STIG V-251186", "Redis manual: AUTH"),
    fix=APPLY,
)
def test_wrong_password_is_refused(access: Access, target: Host, observe: Observe) -> None:
    let_in = []
    for name in INSTANCES:
        with access.redis(target, name, "svc_api") as client:
            right = answer_to(client, "PING")
        assert right == "True", (
            f"{name}: svc_api is refused with its own password ({right}): the probe would prove nothing"
        )
        wrong: dict[str, dict[str, Any]] = {
            "wrong password": {"password": "wrong"},
            "unknown user": {"username": "nobody"},
        }
        for kind, options in wrong.items():
            with access.redis(target, name, "svc_api", **options) as client:
                answer = answer_to(client, "PING")
            observe(**{f"{name}: {kind}": answer})
            if "AuthenticationError" not in answer:
                let_in.append(f"{name}: {kind} ({answer})")
    assert not let_in, "; ".join(let_in)


@control(
    "RD-ACL-13",
    "The administrator cannot log on over the network with anything that the vault holds, and nobody is logged on so",
    severity="critical",
    sources=("STIG V-251187", "Redis manual: ACL"),
    fix="run `dbkeep apply redis`, which gives admin a password that only the host has; end what else is logged on",
)
def test_admin_is_local(
    access: Access, environment: Environment, target: Host, redis_facts: dict[str, Any], observe: Observe
) -> None:
    known = set(environment.secrets["redis"].values())
    wrong = []
    for name in INSTANCES:
        with access.redis(target, name, "svc_api") as client:
            reached = answer_to(client, "PING")
        assert reached == "True", f"{name}: svc_api gets no answer ({reached}): the probe would prove nothing"
        let_in = 0
        for password in known:
            with access.redis(target, name, "admin", password=password) as client:
                let_in += "AuthenticationError" not in answer_to(client, "PING")
        remote = redis_facts["instances"][name]["network_administrators"]
        observe(**{name: {"passwords_tried": len(known), "let_in": let_in, "logged_on_over_the_network": remote}})
        if let_in or remote:
            wrong.append(f"{name}: {let_in} of {len(known)} passwords let admin in, {remote} are logged on as admin")
    assert not wrong, "; ".join(wrong)


@control(
    "RD-NET-03",
    "A connection without TLS is refused",
    severity="critical",
    sources=("Redis manual: TLS Support", "redis-baseline 56"),
    fix=SITE,
)
def test_plaintext_is_refused(access: Access, target: Host, redis_facts: dict[str, Any], observe: Observe) -> None:
    answered = []
    for name in INSTANCES:
        port = redis_facts["instances"][name]["configuration"]["port"]
        with access.redis(target, name, "svc_api") as client:
            encrypted = answer_to(client, "PING")
        with access.redis(target, name, None, plain=True) as client:
            answer = answer_to(client, "PING")
        observe(**{name: {"plain_port": port, "with_tls": encrypted, "without_tls": answer}})
        if "ConnectionError" not in answer and "TimeoutError" not in answer:
            answered.append(f"{name} answers {answer!r}")
        if port != "0":
            answered.append(f"{name} has the plain port {port}")
    assert not answered, "; ".join(answered)


@control(
    "RD-TLS-01",
    "TLS older than 1.2 is refused",
    severity="high",
    sources=("RFC 8996", "redis-baseline 58"),
    fix=SITE,
)
def test_old_tls_is_refused(access: Access, target: Host, observe: Observe) -> None:
    for name in INSTANCES:
        port = f"redis_{name}_port"
        best = access.tls_version(target, port, at_most=ssl.TLSVersion.MAXIMUM_SUPPORTED)
        old = access.tls_version(target, port, at_most=ssl.TLSVersion.TLSv1_1)
        observe(**{name: {"best": best, "offered_tls_1_1": old}})
        assert best in ("TLSv1.2", "TLSv1.3"), f"{name} agrees to no TLS at all ({best}): the probe would prove nothing"
        assert old is None, f"{name} agrees to {old}"
