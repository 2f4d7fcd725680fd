"""Are the environment's own secrets kept as secrets?"""

import stat
from pathlib import Path

from dbkeep.checks.control import control
from dbkeep.checks.plugin import Observe
from dbkeep.environment import Environment
from dbkeep.redaction import secret_values


@control(
    "ENV-02",
    "The vault is encrypted and its password is readable by its owner only",
    severity="critical",
    sources=("Ansible documentation: Vault",),
    fix="encrypt group_vars/all/vault.yml with ansible-vault; chmod 600 the vault password file",
)
def test_vault_is_encrypted(environment: Environment, observe: Observe) -> None:
    vault = environment.path / "group_vars/all/vault.yml"
    head = vault.read_text(encoding="utf-8").partition("\n")[0]
    password = environment.path / ".vault-password"
    mode = stat.S_IMODE(password.stat().st_mode) if password.exists() else None
    observe(header=head[:20], password_file_mode=mode and f"{mode:04o}")
    assert head.startswith("$ANSIBLE_VAULT;"), f"{vault} is not encrypted"
    assert mode is None or mode & 0o077 == 0, f"{password} has mode {mode:04o}: others can read it"


@control(
    "ENV-03",
    "No file of the environment but the vault holds a secret",
    severity="critical",
    sources=("dbkeep design: no secret in git or in a readable file",),
    fix="move the value into the vault and make a new one: what was readable is known",
)
def test_no_secret_outside_the_vault(environment: Environment, observe: Observe) -> None:
    values = secret_values(environment.secrets)
    files = [path for path in environment.path.rglob("*") if path.is_file() and path.name != ".vault-password"]
    holding = [str(path.relative_to(environment.path)) for path in files if _holds(path, values)]
    observe(files=len(files), secrets=len(values), holding=holding)
    assert values, "the vault holds no secret (dbkeep_secrets is empty)"
    assert not holding, f"secrets stand open in {', '.join(holding)}"


def _holds(path: Path, values: frozenset[str]) -> bool:
    text = path.read_text(encoding="utf-8", errors="replace")
    return any(value in text for value in values)
