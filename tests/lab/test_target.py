"""A second host stands aside, gets the data of a moment from the first one or from a store, and takes over from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import boto3
import pytest
import yaml

from dbkeep.environment import Environment, Host, read_environment
from dbkeep.lab import machine
from dbkeep.lab.lab import define_lab
from dbkeep.new_environment import create_environment
from dbkeep.remote import call
from dbkeep.sandbox import s3
from dbkeep.sandbox.s3 import S3Server

from .conftest import dbkeep
from .declared_stores import bucket, declare
from .test_disaster import SHIPPED_SECONDS, read, write
from .test_drift import playbook

pytestmark = pytest.mark.long

NAME = "target"
FIRST, SECOND = f"{NAME}-1", f"{NAME}-2"
ENGINES = ("postgresql", "mongodb", "redis")
CLUSTER = "/var/lib/postgresql/15/main"


@pytest.fixture(scope="module")
def environment() -> Iterator[Environment]:
    """A host with everything, and one that stands aside with the engines alone; `up` finds both green."""
    try:
        assert dbkeep("lab", "up", NAME, "--hosts", "2").status == 0
        hosts = {host.name: {"ansible_host": host.address} for host in lab_hosts()}
        groups = {engine: [FIRST, SECOND] for engine in ENGINES} | {"chat_api": [FIRST], "standby": [SECOND]}
        create_environment(NAME, hosts=hosts, groups=groups)
        done = dbkeep("up", "--name", NAME, "--json", timeout=1800)
        assert done.status == 0, done.err
        yield read_environment(NAME)
    finally:
        assert dbkeep("down", "--purge", "--name", NAME).status == 0


def lab_hosts() -> tuple[machine.Machine, ...]:
    return define_lab(NAME, hosts=2, release="bookworm").machines


def named(environment: Environment, name: str) -> Host:
    return next(host for host in environment.all_hosts if host.name == name)


def messages(host: Host) -> int:
    return int(call(host, ["describe"])["mongodb"]["counts"]["chat.messages"])


def keys(server: S3Server) -> set[str]:
    """Return every key of the bucket, as its owner sees them."""
    storage = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        verify=str(server.ca_file),
        aws_access_key_id=server.key_id,
        aws_secret_access_key=s3.KEY,
    )
    pages = storage.get_paginator("list_objects_v2").paginate(Bucket="copies")
    return {entry["Key"] for page in pages for entry in page.get("Contents", ())}


def test_what_is_no_target_is_refused_before_any_host_is_asked(environment: Environment) -> None:
    wrong = {
        "nobody": f"no host of inventory/{NAME} (there is {FIRST}, {SECOND})",
        FIRST: "without --target it is restored in place",
        "look": "whole path",
    }
    for place, words in wrong.items():
        done = dbkeep("restore", "-e", environment.name, "--target", place, "--yes")
        assert done.status == 2, done.out + done.err
        assert words in done.err, done.err


def test_the_host_aside_gets_a_point_from_the_one_that_runs(environment: Environment) -> None:
    first, second = named(environment, FIRST), named(environment, SECOND)
    at_point = messages(first)
    marked = dbkeep("backup", "mark", "-e", NAME, "--name", "release")
    assert marked.status == 0, marked.err
    _, _, sent = write(environment)
    time.sleep(SHIPPED_SECONDS)
    asked = dbkeep("restore", "-e", NAME, "--point", "release", "--target", SECOND)
    assert asked.status == 1, "nobody said yes"
    assert f"replaces {CLUSTER} (kept beside it)" in asked.err

    done = dbkeep("restore", "-e", NAME, "--point", "release", "--target", SECOND, "--yes", "--json")

    assert done.status == 0, done.err
    assert {row["host"] for row in done.json["engines"].values()} == {SECOND}
    assert (done.json["store"], done.json["source"], done.json["dangling"]) == ("local", FIRST, 0)
    assert messages(second) == at_point
    assert messages(first) == at_point + len(sent)
    kept = done.json["engines"]["postgresql"]["safety_copy"]
    assert dbkeep("lab", "exec", SECOND, f"sudo test -f {kept}/PG_VERSION").status == 0


@pytest.fixture(scope="module")
def offsite(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A bucket with object lock that has a set of the first host."""
    gateway = str(define_lab(NAME, hosts=2, release="bookworm").gateway)
    with s3.locking(tmp_path_factory.mktemp("store"), address=gateway) as server:
        declare(environment.name, [bucket(server, "offsite")])
        assert dbkeep("backup", "stores", "-e", NAME, "--prepare").status == 0
        run = dbkeep("backup", "run", "-e", NAME)
        assert run.status == 0, run.err
        yield server


def test_drills_run_on_the_host_for_them_alone(environment: Environment, offsite: S3Server) -> None:
    marked = dbkeep("backup", "mark", "-e", NAME, "--name", "drilled")
    assert marked.status == 0, marked.err
    time.sleep(SHIPPED_SECONDS)
    before = keys(offsite)
    place_aside(environment, "drill")
    try:
        for words, target in ((("--point", "drilled"), "point drilled"), ((), "set ")):
            done = dbkeep("drill", "-e", NAME, *words, "--json")
            assert done.status == 0, done.out + done.err
            assert {row["host"] for row in done.json["engines"].values()} == {SECOND}
            assert (done.json["store"], done.json["target"].startswith(target)) == ("offsite", True)
        known = dbkeep("lab", "exec", FIRST, "sudo sh -c 'grep -l drilled /var/lib/dbkeep/evidence/drill-*'")
        assert known.status == 0, "the host whose set it is does not know of the drill"
        played = playbook(NAME, book="drill.yml")
        assert played.returncode == 0, played.stdout + played.stderr
    finally:
        place_aside(environment, "standby")
    # Not even its log, which it archives for itself. The first host's goes on.
    assert {key for key in keys(offsite) - before if "sets/" in key} == set()


def place_aside(environment: Environment, group: str) -> None:
    """Have the second host stand aside in this group. What is on it is the same in both."""
    path = environment.path / "hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for other in ("standby", "drill"):
        content["all"]["children"].pop(other, None)
    content["all"]["children"][group] = {"hosts": {SECOND: None}}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def test_it_takes_over_at_a_chosen_second_when_the_first_one_is_gone(
    environment: Environment, offsite: S3Server
) -> None:
    second, lab = named(environment, SECOND), define_lab(NAME, hosts=2, release="bookworm")
    person, conversation, sent = write(environment)
    chosen = sent[len(sent) // 2].at.replace(microsecond=0) + timedelta(seconds=1)
    time.sleep(SHIPPED_SECONDS)
    machine.stop(lab.machines[0])
    before = keys(offsite)

    back = ("restore", "-e", NAME, "--to", chosen.strftime("%Y-%m-%dT%H:%M:%SZ"), "--target", SECOND, "--yes")
    gone = dbkeep(*back, "--store", "local")
    assert (gone.status, "restored from a store: --store NAME" in gone.err) == (2, True), gone.err
    done = dbkeep(*back, "--json")
    assert done.status == 0, done.err
    assert (done.json["store"], done.json["source"]) == ("offsite", FIRST)
    # It takes sets and seals its log like any host, for itself.
    assert dbkeep("lab", "exec", SECOND, "sudo systemctl start dbkeep-backup.service").status == 0
    assert {part["engine"] for part in call(second, ["backup", "list"], {})["parts"]} == set(ENGINES)
    assert keys(offsite) == before

    take_over(environment)
    numbers = read(read_environment(NAME), person, conversation)
    expected = {one.number for one in sent if one.at < chosen - timedelta(seconds=1)}
    assert expected <= numbers
    assert not numbers & {one.number for one in sent if one.at > chosen + timedelta(seconds=1)}
    again = dbkeep("backup", "run", "-e", NAME)
    assert again.status == 0, again.err
    assert keys(offsite) > before


def take_over(environment: Environment) -> None:
    """Change the inventory as a person does: the second host has everything, and the first one is not there."""
    path = environment.path / "hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]
    del content["hosts"][FIRST]
    content["children"] = {group: {"hosts": {SECOND: None}} for group in (*ENGINES, "chat_api")}
    path.write_text(yaml.safe_dump({"all": content}, sort_keys=False), encoding="utf-8")
    done = playbook(NAME)
    assert done.returncode == 0, done.stdout + done.stderr
