"""Mutants of roles and users: each role wider, narrower, or heir of another; each user with more, less, or cheaper."""

from __future__ import annotations

from collections.abc import Iterator

from dbkeep.mongodb import statements
from dbkeep.mongodb.connect import Document
from dbkeep.mongodb.diff.access import ITERATIONS
from dbkeep.mongodb.models import Role, User
from dbkeep.mongodb.prove.mutants.mutant import Ground, Mutant
from dbkeep.mongodb.prove.privileges import ADMINISTRATION, Target
from dbkeep.mongodb.prove.trials import CLUSTER, COLLECTION, DATABASE, NOBODY
from dbkeep.mongodb.statements import Command

OF_COLLECTIONS = ("find", "insert", "update", "remove")
# What changes the shape of a collection, on one of them.
OF_ONE = ("bypassDocumentValidation", "dropCollection", "collMod", "createIndex", "changeStream", "convertToCapped")
OF_DATABASES = (("listCollections", ""), ("dropDatabase", ""), ("enableProfiler", ""), ("createUser", ADMINISTRATION),
                ("grantRole", ADMINISTRATION), ("viewUser", ADMINISTRATION))  # fmt: skip
OF_THE_CLUSTER = ("setParameter", "shutdown", "getLog", "inprog", "killop", "replSetStateChange", "listDatabases")
ANY_COLLECTION = {"db": "", "collection": ""}
ELSEWHERE: tuple[tuple[Document, str], ...] = (
    ({"db": ADMINISTRATION, "collection": "system.users"}, "find"),
    ({"db": "local", "collection": "oplog.rs"}, "find"),
    (ANY_COLLECTION, "find"),
    ({"db": NOBODY, "collection": NOBODY}, "insert"),
    ({"anyResource": True}, "anyAction"),
)
BUILT_IN = (
    ("read", ""), ("readWrite", ""), ("dbAdmin", ""), ("dbOwner", ""), ("readAnyDatabase", ADMINISTRATION),
    ("restore", ADMINISTRATION), ("userAdminAnyDatabase", ADMINISTRATION), ("root", ADMINISTRATION),
)  # fmt: skip
CHEAP = 5000
NOT_TRIED = frozenset(trial.action for trial in (*COLLECTION, *DATABASE, *CLUSTER) if not trial.harmless)


def widened(ground: Ground) -> Iterator[Mutant]:
    """Give each role one action that it does not have."""
    for role in ground.declared.roles:
        for resource, action, where in _more(ground):
            anywhere = resource == ANY_COLLECTION
            named = Target(resource.get("db", ""), resource.get("collection", ""))
            target = Target(NOBODY, NOBODY) if anywhere else named
            user = _user_of(ground, role)
            if user and not resource.get("anyResource") and ground.has(user, action, target):
                continue
            grant = {"privileges": [{"resource": resource, "actions": [action]}]}
            command = Command(ADMINISTRATION, {"grantPrivilegesToRole": role.name, **grant})
            what = f"also {action} on {where}"
            kind = "role: an action more, not tried" if action in NOT_TRIED else "role: an action more"
            yield _mutant(ground, role, what, kind, command, collection=target.collection)


def _more(ground: Ground) -> Iterator[tuple[Document, str, str]]:
    """Yield resources with an action on them, and how the resource is called."""
    database, collections = ground.database, ground.declared.collections
    for collection in collections:
        for action in OF_COLLECTIONS:
            yield {"db": database, "collection": collection.name}, action, collection.name
    for view in ground.declared.views:
        yield {"db": database, "collection": view.name}, "find", view.name
    for number, action in enumerate(OF_ONE):
        name = collections[number % len(collections)].name
        yield {"db": database, "collection": name}, action, name
    for action, where in OF_DATABASES:
        yield {"db": where or database, "collection": ""}, action, f"database {where or database}"
    for action in OF_THE_CLUSTER:
        yield {"cluster": True}, action, "cluster"
    for resource, action in ELSEWHERE:
        names = [str(resource.get(name, "")) for name in ("db", "collection")]
        yield resource, action, ".".join(names).strip(".") or ("any collection" if "db" in resource else "any resource")


def narrowed(ground: Ground) -> Iterator[Mutant]:
    """Take one declared action from each role after the other."""
    for role in ground.declared.roles:
        for privilege in role.privileges:
            stored = statements.privilege(ground.database, privilege)
            for action in privilege.actions:
                taken = {"privileges": [{**stored, "actions": [action]}]}
                command = Command(ADMINISTRATION, {"revokePrivilegesFromRole": role.name, **taken})
                where = privilege.collection or privilege.database or "cluster"
                what = f"without {action} on {where}"
                yield _mutant(
                    ground, role, what, "role: an action less", command, collection=privilege.collection or ""
                )


def inherited(ground: Ground) -> Iterator[Mutant]:
    """Let each role inherit from a built-in one, from another declared one, and not from its own."""
    names = [role.name for role in ground.declared.roles]
    for number, role in enumerate(ground.declared.roles):
        more = [(name, where or ground.database) for name, where in BUILT_IN]
        other = names[(number + 1) % len(names)]
        for name, where in [*more, (other, ADMINISTRATION)]:
            grant = {"grantRolesToRole": role.name, "roles": [{"role": name, "db": where}]}
            what = f"inherits {name} of {where}"
            yield _mutant(ground, role, what, "role: inherits more", Command(ADMINISTRATION, grant))
        for name in role.roles:
            revoke = {"revokeRolesFromRole": role.name, "roles": [{"role": name, "db": ADMINISTRATION}]}
            what = f"does not inherit {name}"
            yield _mutant(ground, role, what, "role: inherits less", Command(ADMINISTRATION, revoke))


def users(ground: Ground) -> Iterator[Mutant]:
    """Give each user another role, take its own, drop it; and make a user and a role that nobody declared."""
    names = [role.name for role in ground.declared.roles]
    for number, user in enumerate(ground.declared.users):
        # Two that are not its own, and the one that may do everything.
        others = [names[(number + step) % len(names)] for step in (1, 3)]
        for name in [other for other in others if other not in user.roles] + ["root"]:
            command = Command(ADMINISTRATION, {"grantRolesToUser": user.name, "roles": [name]})
            yield _user_mutant(ground, user, f"also {name}", "user: a role more", command)
        command = Command(ADMINISTRATION, {"revokeRolesFromUser": user.name, "roles": list(user.roles)})
        yield _user_mutant(ground, user, "without its role", "user: a role less", command)
    create = Command(ADMINISTRATION, {"createUser": NOBODY, "pwd": NOBODY, "roles": ["root"]})
    drop = Command(ADMINISTRATION, {"dropUser": NOBODY})
    yield Mutant("a user more", "user: undeclared", (create,), (drop,))
    create = Command(ADMINISTRATION, {"createRole": NOBODY, "roles": ["root"], "privileges": []})
    drop = Command(ADMINISTRATION, {"dropRole": NOBODY})
    yield Mutant("a role more", "role: undeclared", (create,), (drop,))


def passwords(ground: Ground) -> Iterator[Mutant]:
    """Store each user's password so that it costs less to guess, or give it another one."""
    wanted = {parameter.name: parameter.value for parameter in ground.declared.server.parameters}.get(ITERATIONS)
    for user in ground.declared.users:
        store = statements.change_user(user, ground.passwords[user.name])
        another = statements.change_user(user, NOBODY)
        about = frozenset({user.name})
        yield Mutant(f"{user.name}: another password", "user: another password", (another,), (store,), about=about)
        if wanted is not None:
            cheap, dear = (Command(ADMINISTRATION, {"setParameter": 1, ITERATIONS: value}) for value in (CHEAP, wanted))
            name = f"{user.name}: password stored at {CHEAP} iterations"
            yield Mutant(name, "user: cheap password", (cheap, store, dear), (store,), about=about)


def _user_of(ground: Ground, role: Role) -> str | None:
    return next((user.name for user in ground.declared.users if role.name in user.roles), None)


def _mutant(ground: Ground, role: Role, what: str, kind: str, command: Command, *, collection: str = "") -> Mutant:
    undo = statements.change_role(ground.database, role)
    return Mutant(f"{role.name}: {what}", kind, (command,), (undo,), about=frozenset({role.name, collection}))


def _user_mutant(ground: Ground, user: User, what: str, kind: str, command: Command) -> Mutant:
    undo = statements.change_user(user, ground.passwords[user.name])
    return Mutant(f"{user.name}: {what}", kind, (command,), (undo,), about=frozenset({user.name}))
