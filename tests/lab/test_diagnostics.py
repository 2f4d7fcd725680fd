"""`dbkeep diagnostics` on a real host: everything is in the archive, no secret is."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from dbkeep.redaction import holds_secret, secret_values

from .conftest import UpLab, dbkeep


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        files = {member.name.partition("/")[2]: archive.extractfile(member) for member in archive.getmembers()}
        return {name: stream.read().decode() for name, stream in files.items() if stream}


def test_one_archive_holds_every_host_and_no_secret(lab: UpLab, tmp_path: Path) -> None:
    path = tmp_path / "diagnostics.tar.gz"
    done = dbkeep("diagnostics", "-e", lab.name, "-o", str(path))
    assert done.status == 0, done.err
    files = contents(path)

    assert json.loads(files["index.json"])["not_collected"] == {}
    for engine in ("postgresql", "mongodb", "redis"):
        assert json.loads(files[f"plans/{engine}.json"])["changes"] == []
        assert json.loads(files[f"{lab.host.name}/facts-{engine}.json"])["versions"]
        assert json.loads(files[f"{lab.host.name}/agent.json"])[engine]["version"]
    assert json.loads(files["check.json"])["schema"] == "dbkeep.check/1"
    assert "mongod.service" in files[f"{lab.host.name}/services.txt"]

    values = secret_values(lab.environment.secrets)
    assert len(values) > 20
    assert [name for name, text in files.items() if holds_secret(text, values)] == []


def test_a_host_that_does_not_answer_is_named_in_one_line(lab: UpLab, tmp_path: Path) -> None:
    hosts = lab.environment.path / "hosts.yml"
    kept = hosts.read_text(encoding="utf-8")
    try:
        hosts.write_text(kept.replace(lab.host.address, "198.19.255.254"), encoding="utf-8")
        done = dbkeep("diagnostics", "-e", lab.name, "-o", str(tmp_path / "d.tar.gz"))
    finally:
        hosts.write_text(kept, encoding="utf-8")
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert lab.name in done.err
