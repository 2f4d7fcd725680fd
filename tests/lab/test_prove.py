"""`dbkeep prove -e`: a live server is attacked as every role over TLS, and is left as it was."""

from __future__ import annotations

import shlex
import time

from .breakages.shell import redis
from .conftest import UpLab, dbkeep


def psql(lab: UpLab, statement: str) -> None:
    lab.run(f"sudo -u postgres psql -qX -d chat -c '{statement}'")


def test_a_live_server_is_proved_and_left_as_it_was(lab: UpLab) -> None:
    before = lab.counts()["postgresql"]
    done = dbkeep("prove", "postgresql", "-e", lab.name, "--json")
    assert done.status == 0, done.out + done.err
    assert lab.counts()["postgresql"] == before
    document = done.json
    assert document["disagreements"] == []
    assert {"P08", "P16", "P17"} <= set(document["not_tried"])
    assert len(document["probes"]) > 40


def test_a_hole_in_a_live_server_is_found(lab: UpLab) -> None:
    psql(lab, "CREATE POLICY probe ON chat.settings FOR SELECT TO app_api USING (true)")
    try:
        done = dbkeep("prove", "postgresql", "-e", lab.name, "--probes", "P01,P11", "--json")
    finally:
        psql(lab, "DROP POLICY probe ON chat.settings")
    found = {(probe["id"], finding["target"]) for probe in done.json["probes"] for finding in probe["findings"]}
    assert (done.status, found) == (1, {("P11", "chat.settings")})


MONGODB = """
import json, pathlib, pymongo
s = json.loads(pathlib.Path('/etc/dbkeep/agent.d/mongodb.json').read_text())
client = pymongo.MongoClient(s['host'], s['port'], tls=True, tlsCAFile=s['ca_file'], directConnection=True,
    tlsCertificateKeyFile=s['certificate_key_file'], authMechanism='MONGODB-X509', authSource='$external')
where = dict(db='chat', collection='messages')
client.admin.command(%r, 'chat_analytics', privileges=[dict(resource=where, actions=['find'])])
"""


def mongodb_privilege(lab: UpLab, command: str) -> None:
    lab.run(f"sudo /opt/dbkeep/venv/bin/python -c {shlex.quote(MONGODB % command)}")


def test_a_live_mongodb_is_proved_and_left_as_it_was(lab: UpLab) -> None:
    before = lab.counts()["mongodb"]
    done = dbkeep("prove", "mongodb", "-e", lab.name, "--json")
    assert done.status == 0, done.out + done.err
    assert lab.counts()["mongodb"] == before
    document = done.json
    assert document["disagreements"] == []
    assert {"P14", "P28", "P32", "P40", "P41"} <= set(document["not_tried"])
    assert {"P01", "P10", "P16", "P20", "P21"} <= {probe["id"] for probe in document["probes"]}


def test_a_hole_in_a_live_mongodb_is_found(lab: UpLab) -> None:
    mongodb_privilege(lab, "grantPrivilegesToRole")
    try:
        done = dbkeep("prove", "mongodb", "-e", lab.name, "--probes", "P01,P33", "--json")
    finally:
        mongodb_privilege(lab, "revokePrivilegesFromRole")
    found = {(probe["id"], finding["role"]) for probe in done.json["probes"] for finding in probe["findings"]}
    assert (done.status, found) == (1, {("P01", "chat_analytics"), ("P33", "chat_analytics")})


def live_keys(lab: UpLab) -> dict[tuple[str, str], float]:
    """Return when every key of both instances expires (Unix time, -1 for never), but for rate limits."""
    found = [(instance, name) for instance in ("state", "cache") for name in lab.run(redis(instance, "--scan")).split()]
    return {
        (instance, name): float(lab.run(redis(instance, f"EXPIRETIME {shlex.quote(name)}")))
        for instance, name in found
        if not name.startswith("rl:")
    }


def test_a_live_redis_is_proved_and_left_as_it_was(lab: UpLab) -> None:
    before = live_keys(lab)
    assert before
    done = dbkeep("prove", "redis", "-e", lab.name, "--json")
    assert done.status == 0, done.out + done.err
    after = live_keys(lab)
    # What attempts leave behind goes by itself in two minutes.
    assert not [key for key, expires in after.items() if key not in before and not 0 <= expires <= time.time() + 120]
    assert not [name for name, expires in before.items() if name not in after and not 0 <= expires <= time.time()]
    document = done.json
    assert document["disagreements"] == []
    assert {"P12", "P27", "P40", "P50", "P51", "P52"} <= set(document["not_tried"])
    assert len(document["probes"]) > 20
    assert sum(cell["commands"] for cell in document["matrix"]) > 5000


def test_a_hole_in_a_live_redis_is_found(lab: UpLab) -> None:
    lab.run(redis("state", "ACL SETUSER svc_ws '(~sess:* +strlen)'"))
    try:
        done = dbkeep("prove", "redis", "-e", lab.name, "--probes", "P10,P15,P32", "--json")
    finally:
        repaired = dbkeep("apply", "-e", lab.name, "redis", "--allow-destructive")
    assert repaired.status == 0, repaired.out + repaired.err
    assert done.status == 1, done.out + done.err
    assert {probe["id"] for probe in done.json["probes"] if probe["findings"]} == {"P10", "P15"}
    assert any("granted, not declared: strlen" in line for line in done.json["disagreements"])
