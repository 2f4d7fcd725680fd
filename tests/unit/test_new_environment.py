"""Environments: complete or absent, completed when run again, readable by plain Ansible alone."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dbkeep.backup.signature import public_half
from dbkeep.commands.init import parse_hosts
from dbkeep.environment import checkout
from dbkeep.errors import UsageError
from dbkeep.new_environment import MAIN, create_environment, set_variable
from dbkeep.secrets import age_recipient
from dbkeep.tls import is_authority_of
from dbkeep.vault import PASSWORD_FILE, VAULT_FILE, read_vault, write_vault

HOSTS = {"db1": {"ansible_host": "192.0.2.7"}}
GROUPS = {"postgresql": ["db1"], "redis": ["db1"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of its own: the example, the declared state and Ansible's configuration, but no environment."""
    for name in ("inventory/example", "sql", "mongo", "redis", "plugins"):
        shutil.copytree(checkout() / name, tmp_path / name)
    shutil.copy(checkout() / "ansible.cfg", tmp_path)
    return tmp_path


def main_of(path: Path) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load((path / MAIN).read_text(encoding="utf-8"))
    return content


def test_a_new_environment_is_whole_and_its_secrets_are_closed(root: Path) -> None:
    made = create_environment("prod", hosts=HOSTS, groups=GROUPS, variables={"chat_api_port": 443}, root=root)
    assert made.is_new
    secrets, public = read_vault(made.path), main_of(made.path)
    assert set(secrets) == {"ca_private_key", "mongodb_keyfile", "postgresql", "mongodb", "redis", "backup", "chat_api"}
    assert public["dbkeep_environment"] == "prod"
    assert public["chat_api_port"] == 443
    assert is_authority_of(secrets["ca_private_key"], str(public["dbkeep_ca_certificate"]))
    assert public["backup_age_recipients"] == [age_recipient(secrets["backup"]["age_identity"])]
    assert public["backup_signing_keys"] == [public_half(secrets["backup"]["signing_key"])]
    for file in (PASSWORD_FILE, VAULT_FILE):
        assert stat.S_IMODE((made.path / file).stat().st_mode) == 0o600
    assert (made.path / VAULT_FILE).read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256")
    assert [p.name for p in (root / "inventory").iterdir() if p.name.startswith(".")] == []


def test_plain_ansible_opens_it_without_being_told_how(root: Path) -> None:
    made = create_environment("prod", hosts=HOSTS, groups=GROUPS, root=root)
    program = Path(sys.executable).with_name("ansible-inventory")
    done = subprocess.run(
        [program, "-i", "inventory/prod", "--list"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    listing = json.loads(done.stdout)
    assert listing["_meta"]["hostvars"]["db1"]["dbkeep_secrets"] == read_vault(made.path)
    assert listing["postgresql"]["hosts"] == ["db1"]


def test_a_second_init_changes_nothing(root: Path) -> None:
    made = create_environment("prod", hosts=HOSTS, groups=GROUPS, root=root)
    before = {p: p.read_bytes() for p in made.path.rglob("*") if p.is_file()}
    again = create_environment("prod", root=root)
    assert (again.is_new, again.added) == (False, ())
    assert {p: p.read_bytes() for p in made.path.rglob("*") if p.is_file()} == before


def test_what_is_missing_is_added_and_public_halves_follow(root: Path) -> None:
    made = create_environment("prod", hosts=HOSTS, groups=GROUPS, root=root)
    secrets = read_vault(made.path)
    kept = secrets["postgresql"]["app_api"]
    del secrets["postgresql"]["app_auth"], secrets["ca_private_key"]
    write_vault(made.path, secrets)
    again = create_environment("prod", root=root)
    assert set(again.added) == {"postgresql.app_auth", "ca_private_key"}
    after = read_vault(made.path)
    assert after["postgresql"]["app_api"] == kept
    assert is_authority_of(after["ca_private_key"], str(main_of(made.path)["dbkeep_ca_certificate"]))


def test_an_environment_of_before_gets_a_signing_key_and_a_new_key_keeps_the_old_one_believed(root: Path) -> None:
    path = create_environment("prod", hosts=HOSTS, groups=GROUPS, root=root).path
    (path / MAIN).write_text(re.sub(r"\nbackup_signing_keys:\n- .*\n", "\n", (path / MAIN).read_text()))
    assert "backup_signing_keys" not in main_of(path)
    believed = []
    for _ in range(2):
        secrets = read_vault(path)
        del secrets["backup"]["signing_key"]
        write_vault(path, secrets)
        assert create_environment("prod", root=root).added == ("backup.signing_key",)
        believed.append(public_half(read_vault(path)["backup"]["signing_key"]))
        assert main_of(path)["backup_signing_keys"] == believed


def test_a_hand_made_copy_of_the_example_is_completed(root: Path) -> None:
    shutil.copytree(root / "inventory/example", root / "inventory/copy")
    made = create_environment("copy", root=root)
    assert not made.is_new
    assert "redis.admin" in made.added
    assert (made.path / VAULT_FILE).read_bytes().startswith(b"$ANSIBLE_VAULT")


def test_a_bad_secret_is_refused_by_name(root: Path) -> None:
    made = create_environment("prod", root=root)
    secrets = read_vault(made.path)
    secrets["redis"]["admin"] = "changeme"
    write_vault(made.path, secrets)
    with pytest.raises(UsageError, match=r"^dbkeep_secrets\.redis\.admin is a placeholder"):
        create_environment("prod", root=root)


def test_a_lost_or_wrong_vault_password_is_named(root: Path) -> None:
    made = create_environment("prod", root=root)
    (made.path / PASSWORD_FILE).write_text("another\n")
    with pytest.raises(UsageError, match=r"vault\.yml: .*\.vault-password does not open it"):
        create_environment("prod", root=root)
    (made.path / PASSWORD_FILE).unlink()
    with pytest.raises(UsageError, match=r"\.vault-password is missing, and .*vault\.yml is encrypted with it"):
        create_environment("prod", root=root)


def test_an_interrupted_init_leaves_nothing_that_looks_finished(root: Path) -> None:
    half = root / "inventory/.prod.unfinished"
    (half / "group_vars/all").mkdir(parents=True)
    (half / "group_vars/all/vault.yml").write_text("half")
    assert create_environment("prod", root=root).is_new
    assert not half.exists()


@pytest.mark.parametrize("name", ["example", "Prod", "../x", "", "a b"])
def test_a_bad_name_is_refused(root: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for an environment"):
        create_environment(name, root=root)


def test_a_variable_is_set_and_everything_else_stays() -> None:
    text = "# one\nfirst: 1\n# two\nsecond:\n  - a\n  - b\n# three\nthird: |\n  x\n  y\n"
    text = set_variable(text, "second", ["c"])
    text = set_variable(text, "third", "1\n2\n")
    text = set_variable(text, "fourth", True)
    assert text == "# one\nfirst: 1\n# two\nsecond:\n- c\n# three\nthird: |\n  1\n  2\n\nfourth: true\n"
    assert set_variable(text, "second", ["d"]) == text.replace("- c", "- d")


def test_hosts_of_the_command_line() -> None:
    hosts, groups = parse_hosts(("db1=192.0.2.7",))
    assert hosts == {"db1": {"ansible_host": "192.0.2.7"}}
    assert set(groups) == {"postgresql", "mongodb", "redis", "chat_api"}
    _, groups = parse_hosts(("a=192.0.2.1", "b=192.0.2.2", "c=192.0.2.3"))
    assert groups == {"postgresql": ["a"], "chat_api": ["a"], "mongodb": ["b"], "redis": ["c"]}
    hosts, groups = parse_hosts(("a=2001:db8::1,postgresql", "b=2001:db8::2,mongodb,redis"))
    assert hosts["a"] == {"ansible_host": "2001:db8::1"}
    assert groups == {"postgresql": ["a"], "mongodb": ["b"], "redis": ["b"], "chat_api": []}
    _, groups = parse_hosts(("a=192.0.2.1,redis", "b=192.0.2.2,redis,standby"))
    assert (groups["redis"], groups["standby"], "drill" in groups) == (["a", "b"], ["b"], False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("db1",), "it must be NAME=ADDRESS"),
        (("db1=192.0.2.1,oracle",), "no such group: oracle"),
        (("a=192.0.2.1", "b=192.0.2.2"), "name its groups"),
        (("a=192.0.2.1,redis", "a=192.0.2.2,redis"), "the name stands twice"),
    ],
)
def test_bad_hosts_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_hosts(words)


def test_a_folder_that_is_no_environment_is_left_alone(root: Path) -> None:
    (root / "inventory/other").mkdir()
    with pytest.raises(UsageError, match=r"inventory/other exists and has no group_vars/all/main\.yml"):
        create_environment("other", root=root)
    assert list((root / "inventory/other").iterdir()) == []
