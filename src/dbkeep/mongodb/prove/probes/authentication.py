"""P10 to P15: who gets in, and by which proof?"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator

from bson import Binary
from pymongo.errors import OperationFailure

from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.diff.access import ITERATIONS
from dbkeep.mongodb.prove.attempts import LOGON_REFUSED, UNAUTHORIZED, Attempt, attempt
from dbkeep.mongodb.prove.probe import probe
from dbkeep.mongodb.prove.trials import NOBODY, NOTHING, ONE_UPDATE
from dbkeep.mongodb.prove.world import World
from dbkeep.prove.probe import CannotTell, Finding, require

ANYBODY = "anybody"
"""Who did not log on; the leak budget names it like a role."""
MECHANISM = "SCRAM-SHA-256"
OTHERS = ("SCRAM-SHA-1", "PLAIN", "GSSAPI")
NOT_ENABLED = "not enabled"
# A password is refused, or the mechanism is, or there is nothing of the user to compare with.
REFUSED = frozenset({LOGON_REFUSED, 11, 334})


@probe(
    "P10", "Without a logon the server answers nothing but who it is", area="authentication",
    sources=("CIS MongoDB 7 2.1", "STIG SV-252150"),
)  # fmt: skip
def without_a_logon(world: World) -> Iterator[Finding]:
    require(world.attempt(None, "admin", {"hello": 1}).is_done, "the server does not answer hello")
    commands: list[tuple[str, Document]] = [
        ("admin", {name: 1})
        for name in (
            "listDatabases", "usersInfo", "rolesInfo", "getCmdLineOpts", "serverStatus", "replSetGetStatus",
            "replSetGetConfig", "hostInfo", "top", "currentOp", "features", "listSessions",
        )
    ]  # fmt: skip
    for collection in world.declared.collections:
        commands.append((world.database, {"find": collection.name, "filter": NOTHING}))
        commands.append((world.database, {"update": collection.name, "updates": ONE_UPDATE}))
    commands += [
        (world.database, {"listCollections": 1, "nameOnly": True}),
        ("admin", {"getParameter": 1, "logLevel": 1}),
        ("admin", {"getLog": "global"}),
        ("admin", {"createUser": NOBODY, "pwd": "x", "roles": [], "mechanisms": ["NONE"]}),
        ("local", {"find": "oplog.rs", "filter": NOTHING}),
    ]
    for database, command in commands:
        tried = world.attempt(None, database, command)
        if tried.code not in {UNAUTHORIZED, 59}:
            yield Finding(ANYBODY, f"{next(iter(command))} on {database}", f"is answered: {tried}")


@probe(
    "P11", "A wrong password, another database and the internal user do not get in", area="authentication",
    sources=("CIS MongoDB 7 2.1", "RFC 5802"),
)  # fmt: skip
def wrong_logons(world: World) -> Iterator[Finding]:
    for user in world.users:
        with world.connect(user) as client:
            require(attempt(client, "admin", {"connectionStatus": 1}).is_done, f"{user} does not get in")
        wrong = {
            "a wrong password": {"password": secrets.token_urlsafe()},
            "its name as password": {"password": user},
            "another database": {"authSource": world.database},
        }
        for title, options in wrong.items():
            yield from _gets_in(world, user, title, **options)
    user = world.users[0]
    yield from _gets_in(world, user, "as __system", username="__system", authSource="local", password="x")  # noqa: S106
    yield from _gets_in(world, user, "as nobody that there is", username=NOBODY)


def _gets_in(world: World, user: str, title: str, **options: str) -> Iterator[Finding]:
    with world.connect(user, **options) as client:
        try:
            client.admin.command("connectionStatus")
        except OperationFailure as error:
            require(error.code in REFUSED, f"{user} with {title}: code {error.code}")
        else:
            yield Finding(user, "logon", f"gets in with {title}")


@probe(
    "P12", "Passwords are proved by SCRAM-SHA-256 only", area="authentication", sources=("STIG SV-252159", "RFC 7677"),
)  # fmt: skip
def mechanisms(world: World) -> Iterator[Finding]:
    for user in world.users:
        offered = world.attempt(None, "admin", {"hello": 1, "saslSupportedMechs": f"admin.{user}"})
        own = (offered.reply or {}).get("saslSupportedMechs", [])
        if set(own) - {MECHANISM}:
            yield Finding(user, "logon", f"is offered {', '.join(sorted(own))}")
        require(_begin(world, user, MECHANISM).is_done, f"{user} cannot begin a logon by {MECHANISM}")
    for mechanism in OTHERS:
        tried = _begin(world, world.users[0], mechanism)
        if NOT_ENABLED not in tried.message:
            yield Finding(ANYBODY, f"logon by {mechanism}", f"the server enters into it: {tried}")


@probe(
    "P13", "A stored password costs what is declared to guess", area="authentication", sources=("RFC 7677",),
)  # fmt: skip
def cost_of_guessing(world: World) -> Iterator[Finding]:
    """What the server tells at the start of a logon; it is written into what is stored for a user."""
    parameters = {parameter.name: parameter.value for parameter in world.declared.server.parameters}
    wanted = parameters.get(ITERATIONS)
    if not isinstance(wanted, int):
        raise CannotTell(f"{ITERATIONS} is not declared")
    for user in world.users:
        found = _iterations(_begin(world, user, MECHANISM))
        if found < wanted:
            yield Finding(user, "stored password", f"costs {found} iterations, {wanted} are declared")
    if world.is_copy:
        administration = world.administrator().admin
        administration.command("createUser", NOBODY, pwd=secrets.token_urlsafe(), roles=[], mechanisms=[MECHANISM])
        found = _iterations(_begin(world, NOBODY, MECHANISM))
        administration.command("dropUser", NOBODY)
        if found < wanted:
            yield Finding(NOBODY, "password of a new user", f"costs {found} iterations, {wanted} are declared")


@probe(
    "P14", "Nobody can make the first user of an empty server", area="authentication", sources=("CIS MongoDB 7 2.2",),
    live=False,
)  # fmt: skip
def localhost_exception(world: World) -> Iterator[Finding]:
    """Only a server without a user shows it, so another one is started in the same way."""
    root = {"createUser": NOBODY, "pwd": secrets.token_urlsafe(), "roles": ["root"]}
    with world.empty() as connect, connect() as client:
        for command in (root, {"replSetInitiate": {"_id": "chat", "members": []}}):
            tried = attempt(client, "admin", command)
            if not tried.is_denied:
                yield Finding(ANYBODY, next(iter(command)), f"gets beyond authorization on an empty server: {tried}")


@probe(
    "P15", "The server does not tell who does not log on which users there are", area="authentication",
    sources=("MongoDB manual: hello, saslSupportedMechs",),
)  # fmt: skip
def names_of_users(world: World) -> Iterator[Finding]:
    for user in (world.users[0], NOBODY):
        require(world.attempt(None, "admin", {"hello": 1}).is_done, "the server does not answer hello")
        offered = world.attempt(None, "admin", {"hello": 1, "saslSupportedMechs": f"admin.{user}"})
        if "saslSupportedMechs" in (offered.reply or {}):
            yield Finding(ANYBODY, "hello", "tells whether there is a user of a name", leak="names_of_users")
    if _begin(world, world.users[0], MECHANISM).is_done and not _begin(world, NOBODY, MECHANISM).is_done:
        yield Finding(ANYBODY, "saslStart", "is refused at once for a name that no user has", leak="names_of_users")


def _begin(world: World, user: str, mechanism: str) -> Attempt:
    """Begin a logon and leave it; no password is sent."""
    nonce = base64.b64encode(secrets.token_bytes(18)).decode()
    payload = Binary(f"n,,n={user},r={nonce}".encode())
    with world.connect(None) as client:
        return attempt(client, "admin", {"saslStart": 1, "mechanism": mechanism, "payload": payload})


def _iterations(begun: Attempt) -> int:
    told = re.search(rb"i=(\d+)$", (begun.reply or {}).get("payload", b""))
    require(told, f"the server does not begin a logon: {begun}")
    return int(told[1]) if told else 0
