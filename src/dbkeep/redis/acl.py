"""An ACL user as values that compare equal exactly when the rights are equal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dbkeep.redis.declared import Declared, Grant, LaterCommand
from dbkeep.redis.passwords import valid

_RULE = re.compile(r"\([^)]*\)|\S+")


@dataclass(frozen=True, slots=True)
class ACLUser:
    """One user; `passwords` are SHA-256 hex digests and never shown, `selectors` are spelled as `selector` does."""

    name: str
    enabled: bool = False
    nopass: bool = False
    skips_sanitizing: bool = False
    passwords: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    commands: frozenset[str] = frozenset()
    selectors: frozenset[str] = frozenset()

    def shown(self) -> dict[str, object]:
        """Return the user for people and evidence, with a count in place of the digests."""
        return {
            "enabled": self.enabled,
            "passwords": "none needed" if self.nopass else len(self.passwords),
            "keys": sorted(self.keys),
            "channels": sorted(self.channels),
            "commands": sorted(self.commands),
            "selectors": sorted(self.selectors),
        }


def categories_in(lines: Iterable[str]) -> set[str]:
    """Return the command categories, all but @all, that the users in `lines` are described with."""
    return {rule[2:].rstrip(")") for line in lines for rule in line.split() if rule[:2] in ("+@", "-@")} - {"all"}


def selector(keys: Iterable[str], channels: Iterable[str], commands: Iterable[str]) -> str:
    """Return the one spelling of a selector with these patterns (marks included) and commands."""
    rules = [
        *sorted(keys),
        "resetchannels",
        *sorted(channels),
        "-@all",
        *sorted(_rule(command) for command in commands),
    ]
    return f"({' '.join(rules)})"


def _rule(command: str) -> str:
    """Return what allows a command, or takes an exception out of a wider rule."""
    return command if command.startswith("-") else f"+{command}"


def parse(line: str, categories: Mapping[str, Iterable[str]]) -> ACLUser:
    """Return the user of one line of `ACL LIST` or of an ACL file (`user NAME RULE...`).

    `categories` maps those that `categories_in` names to their commands on this server: Redis 7.0 does not repeat the
    rules it was given but describes a user anew, with a category wherever that is shorter.
    """
    _, name, *rules = _RULE.findall(line)
    own = [rule for rule in rules if not rule.startswith("(")]
    user = _from_rules(name, own, categories)
    others = [_from_rules(name, rule[1:-1].split(), categories) for rule in rules if rule not in own]
    return replace(user, selectors=frozenset(selector(other.keys, other.channels, other.commands) for other in others))


def _from_rules(name: str, rules: list[str], categories: Mapping[str, Iterable[str]]) -> ACLUser:
    user = ACLUser(name, commands=_commands((r for r in rules if r.startswith(("+", "-"))), categories))
    for rule in rules:
        user = _with_rule(user, rule)
    return user


def _with_rule(user: ACLUser, rule: str) -> ACLUser:
    if rule.startswith("#"):
        return replace(user, passwords=user.passwords | {rule[1:]})
    for field, marks in (("keys", ("~", "%")), ("channels", "&")):
        if rule.startswith(marks):
            return replace(user, **{field: getattr(user, field) | {rule}})
    return replace(
        user,
        enabled=rule == "on" or (user.enabled and rule != "off"),
        nopass=user.nopass or rule == "nopass",
        skips_sanitizing=user.skips_sanitizing or rule == "skip-sanitize-payload",
    )


def _commands(rules: Iterable[str], categories: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return what the rules, taken in order, leave allowed; an exception from a wider rule stays as `-NAME`."""
    held: set[str] = set()
    for rule in rules:
        name = rule[1:]
        if name == "@all":
            held = {"@all"} if rule[0] == "+" else set()
            continue
        for command in categories.get(name[1:], (name,)) if name[0] == "@" else (name,):
            container = command.split("|")[0]
            if rule[0] == "+":
                held -= {f"-{command}"}
                held |= {command}
            else:
                held -= {allowed for allowed in held if allowed == command or allowed.split("|")[0] == command}
                held |= {f"-{command}"} if held & {"@all", container} else set()
    return frozenset(held)


def parse_file(text: str, categories: Mapping[str, Iterable[str]]) -> dict[str, ACLUser]:
    """Return the users of an ACL file, or of the joined lines of `ACL LIST`, by name."""
    users = (parse(line, categories) for line in text.splitlines() if line.startswith("user "))
    return {user.name: user for user in users}


def expected(declared: Declared, instance: str, version: tuple[int, ...], secrets: Mapping[str, str]) -> list[ACLUser]:
    """Return the users that `instance`, a server of `version`, must hold.

    `secrets` holds the passwords in clear, as the vault names them (dbkeep.redis.passwords).
    """
    connection = {
        command.command if isinstance(command, LaterCommand) else command
        for command in declared.acl.connection
        if not isinstance(command, LaterCommand) or version >= tuple(map(int, command.since.split(".")))
    }
    users = [ACLUser("default")]
    for name in declared.acl.users:
        grants = declared.grants(name, instance)
        if not grants:
            continue
        first, *others = grants
        commands = set(first.commands)
        users.append(
            ACLUser(
                name,
                enabled=True,
                passwords=frozenset(hashlib.sha256(word.encode()).hexdigest() for word in valid(secrets, name)),
                keys=_keys(first),
                channels=_channels(first),
                commands=frozenset(commands if "@all" in commands else commands | connection),
                selectors=frozenset(selector(_keys(grant), _channels(grant), grant.commands) for grant in others),
            )
        )
    return users


def _keys(grant: Grant) -> frozenset[str]:
    marked = (("%R~", grant.read), ("%W~", grant.write), ("~", grant.readwrite))
    return frozenset(mark + pattern for mark, patterns in marked for pattern in patterns)


def _channels(grant: Grant) -> frozenset[str]:
    return frozenset(f"&{pattern}" for pattern in grant.channels)
