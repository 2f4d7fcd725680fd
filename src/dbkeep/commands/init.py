"""`dbkeep init`: a new environment, or the secrets an existing one lacks."""

from __future__ import annotations

import click

from dbkeep.environment import ASIDE, GROUPS
from dbkeep.errors import UsageError
from dbkeep.new_environment import create_environment

# One host for everything, or one per engine with the API beside PostgreSQL.
_GROUPS_BY_COUNT = {1: (GROUPS,), 3: (("postgresql", "chat_api"), ("mongodb",), ("redis",))}


Groups = dict[str, list[str]]


def parse_hosts(words: tuple[str, ...]) -> tuple[dict[str, dict[str, str]], Groups]:
    """Return the hosts given as NAME=ADDRESS or NAME=ADDRESS,GROUP,... with their variables, and the groups.

    Without groups, one host gets all and three hosts get one engine each. Raises UsageError for anything else.
    """
    parsed = [_parse(word) for word in words]
    if not any(groups for _, _, groups in parsed) and len(parsed) in _GROUPS_BY_COUNT:
        layout = _GROUPS_BY_COUNT[len(parsed)]
        parsed = [(name, address, groups) for (name, address, _), groups in zip(parsed, layout, strict=True)]
    hosts: dict[str, dict[str, str]] = {}
    members: Groups = {group: [] for group in GROUPS}
    for name, address, groups in parsed:
        if name in hosts:
            raise UsageError(f"--host {name}: the name stands twice")
        if not groups:
            raise UsageError(
                f"--host {name}: name its groups: {name}=ADDRESS,GROUP,... (of {', '.join((*GROUPS, *sorted(ASIDE)))})"
            )
        hosts[name] = {"ansible_host": address}
        for group in groups:
            members.setdefault(group, []).append(name)
    return hosts, members


def _parse(word: str) -> tuple[str, str, tuple[str, ...]]:
    name, _, rest = word.partition("=")
    address, *groups = rest.split(",")
    unknown = sorted(set(groups) - {*GROUPS, *ASIDE})
    if not name or not address or unknown:
        reason = f"no such group: {', '.join(unknown)}" if unknown else "it must be NAME=ADDRESS[,GROUP,...]"
        raise UsageError(f"--host {word}: {reason}")
    return name, address, tuple(groups)


@click.command("init")
@click.argument("name")
@click.option("--host", "hosts", multiple=True, metavar="NAME=ADDRESS[,GROUP...]", help="A host; once for each.")
def init_command(name: str, hosts: tuple[str, ...]) -> None:
    """Make the environment inventory/NAME with its own authority and secrets; run again to add what is missing."""
    addresses, groups = parse_hosts(hosts)
    made = create_environment(name, hosts=addresses, groups=groups)
    click.echo(f"inventory/{name}: {'made' if made.is_new else 'exists'}, {len(made.added)} secrets added")
    for secret in made.added if not made.is_new else ():
        click.echo(f"  added {secret}")
    if made.is_new:
        click.echo(
            f"Keep inventory/{name}/.vault-password safe, apart from the backups: without it no secret and no backup "
            f"opens.\nNext: look at inventory/{name}/hosts.yml and group_vars/all/main.yml, then run\n"
            f"  .venv/bin/ansible-playbook -i inventory/{name} playbooks/site.yml"
        )
