"""C01 to C03: what no attempt can notice, read from the server: its users, settings and functions, as declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dbkeep.prove.probe import CATALOG, Finding, require
from dbkeep.redis import statements
from dbkeep.redis.acl import ACLUser, categories_in, expected, parse_file
from dbkeep.redis.declared import ADMIN
from dbkeep.redis.prove.probe import probe
from dbkeep.redis.prove.world import World

SOURCES = ("STIG V-251188", "Redis manual: ACL LIST", "redis-baseline 31")


@probe("C01", "The server's users are those declared, with these rights and passwords", area=CATALOG, sources=SOURCES)
def users(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        client = world.auditor(instance)
        lines = [str(line) for line in client.execute_command("ACL LIST")]  # type: ignore[no-untyped-call]
        require(lines, f"{instance} has no user")
        categories = {name: client.execute_command("ACL CAT", name) for name in categories_in(lines)}  # type: ignore[no-untyped-call]
        found = parse_file("\n".join(lines), categories)
        wanted = {
            user.name: user for user in expected(world.declared, instance, world.version(instance), world.secrets)
        }
        for name in sorted(found.keys() | wanted.keys()):
            if name not in wanted:
                yield Finding(name, f"{instance} user", "is not declared")
            elif name not in found:
                yield Finding(name, f"{instance} user", "is missing")
            elif _without_own_password(found[name]) != _without_own_password(wanted[name]):
                yield Finding(name, f"{instance} user", "has other rights or passwords than declared")


def _without_own_password(user: ACLUser) -> ACLUser:
    """The administrator's password is the host's own: nobody else knows whether it is the right one."""
    return replace(user, passwords=frozenset()) if user.name == ADMIN else user


@probe("C02", "The server's settings are those declared", area=CATALOG, sources=("redis/instances.yml", "CONFIG GET"),
       live=False)  # fmt: skip
def settings(world: World) -> Iterator[Finding]:
    """Those of a live host are partly its inventory's: `dbkeep drift` compares them."""
    for instance in world.instances:
        answer = world.auditor(instance).execute_command("CONFIG GET", "*")  # type: ignore[no-untyped-call]
        found = dict(zip(answer[::2], answer[1::2], strict=True))
        for name, value in world.throw_away.directives(instance).items():
            if statements.canonical(str(found.get(name))) != statements.canonical(value):
                yield Finding("(server)", f"{instance} {name}", f'is "{found.get(name)}", declared "{value}"')


@probe("C03", "The server's functions are those declared, and no module was loaded", area=CATALOG,
       sources=("redis/functions/", "redis-baseline 2"))  # fmt: skip
def functions(world: World) -> Iterator[Finding]:
    for instance in world.instances:
        client = world.auditor(instance)
        listed = client.execute_command("FUNCTION LIST", "WITHCODE")  # type: ignore[no-untyped-call]
        entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in listed]
        found = {entry["library_name"]: entry["library_code"] for entry in entries}
        names = world.declared.instances.instances[instance].functions
        wanted = {library.name: library.code for library in world.declared.libraries if library.name in names}
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                yield Finding("(server)", f"{instance} {name}", "has other code than declared")
        for module in client.execute_command("MODULE LIST"):  # type: ignore[no-untyped-call]
            told = dict(zip(module[::2], module[1::2], strict=True))
            if told.get("path"):
                yield Finding("(server)", f"{instance} {told['name']}", "is a module")
