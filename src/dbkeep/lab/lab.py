"""A lab: the test hosts of one name, their subnet and the SSH key that opens them."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dbkeep.debian_packages import LAB, install_packages
from dbkeep.errors import UsageError
from dbkeep.lab import machine, network
from dbkeep.lab.base import USER, image_of, make_base_image
from dbkeep.lab.machine import Machine
from dbkeep.lab.network import Subnet
from dbkeep.lab.paths import STATE, check_name, lab_directory, locked

FIRST_HOST = 11
MOST_HOSTS = 9


@dataclass(frozen=True, slots=True)
class Lab:
    name: str
    release: str
    image: Path
    subnet: Subnet
    machines: tuple[Machine, ...]

    @property
    def folder(self) -> Path:
        return lab_directory(self.name)

    @property
    def key_file(self) -> Path:
        return self.folder / "ssh_key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def gateway(self) -> str:
        return str(self.subnet[1])

    def ssh_command(self, host: Machine) -> list[str]:
        """Return the ssh command line up to and including the host."""
        options = ("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "LogLevel=ERROR")
        return ["ssh", "-i", str(self.key_file), "-o", "IdentitiesOnly=yes", *options, f"{USER}@{host.address}"]


def read_lab(name: str) -> Lab | None:
    """Return the lab called `name` as it was made, or None when there is none."""
    try:
        record = json.loads((lab_directory(check_name(name)) / "lab.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    subnet = ipaddress.IPv4Network(record["subnet"])
    return _lab(name, record["release"], Path(record["image"]), subnet, record["hosts"])


def labs() -> list[Lab]:
    """Return every lab of this machine."""
    if not STATE.is_dir():
        return []
    found = (read_lab(folder.name) for folder in sorted(STATE.iterdir()) if (folder / "lab.json").is_file())
    return [lab for lab in found if lab]


def _lab(name: str, release: str, image: Path, subnet: Subnet, hosts: int) -> Lab:
    machines = tuple(
        Machine(lab=name, name=f"{name}-{number}", address=str(subnet[FIRST_HOST + number - 1]), image=image)
        for number in range(1, hosts + 1)
    )
    return Lab(name, release, image, subnet, machines)


def require_root() -> None:
    """Raise UsageError unless this is root on a Linux machine: nspawn, mounts and bridges need it."""
    if os.geteuid() != 0:
        raise UsageError("test hosts need root (nspawn, mounts, a network bridge); run this as root")


def _require_namespaces() -> None:
    command = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(
            f"this machine cannot run test hosts: systemd-nspawn needs namespaces, and {done.stderr.strip()}; "
            f"use a virtual machine or a privileged container"
        )


def define_lab(name: str, *, hosts: int, release: str) -> Lab:
    """Return the lab `name`, recorded with a subnet of its own; makes no host yet.

    Raises UsageError when a lab of that name has another size or release.
    """
    check_name(name)
    if not 1 <= hosts <= MOST_HOSTS:
        raise UsageError(f"a lab has 1 to {MOST_HOSTS} hosts, not {hosts}")
    with locked(STATE / ".lock", busy=None):
        present = read_lab(name)
        if present is None:
            taken = [lab.subnet for lab in labs()]
            present = _lab(name, release, image_of(release), network.free_subnet(taken), hosts)
            _record(present)
    if (len(present.machines), present.release) != (hosts, release):
        raise UsageError(
            f"lab {name} stands with {len(present.machines)} host(s) of {present.release}; give those options again, "
            f"or remove it first: ./dbkeep down --purge --name {name}"
        )
    return present


def _record(lab: Lab) -> None:
    lab.folder.mkdir(parents=True, exist_ok=True)
    lab.folder.chmod(0o700)
    record = {
        "release": lab.release,
        "image": str(lab.image),
        "subnet": str(lab.subnet),
        "hosts": len(lab.machines),
    }
    unfinished = lab.folder / "lab.json.unfinished"
    unfinished.write_text(json.dumps(record), encoding="utf-8")
    unfinished.rename(lab.folder / "lab.json")


def prepare(lab: Lab) -> None:
    """Make what the lab's hosts start from: packages on this machine, the base image, the SSH key.

    Raises UsageError when this machine cannot run test hosts, DbkeepError when the base image cannot be made.
    """
    require_root()
    _require_namespaces()
    install_packages(LAB)
    make_base_image(lab.image, lab.release)
    if not lab.key_file.with_suffix(".pub").is_file():
        lab.key_file.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"dbkeep lab {lab.name}", "-f", str(lab.key_file)],
            stdin=subprocess.DEVNULL,
            check=True,
        )


def raise_lab(lab: Lab) -> None:
    """Start every host of a prepared lab; what runs already is left alone.

    Raises UsageError when its subnet is taken, DbkeepError when a host does not come up.
    """
    network.raise_network(lab.name, lab.subnet)
    public_key = lab.key_file.with_suffix(".pub").read_text(encoding="ascii")
    for host in lab.machines:
        machine.create(host, lab.subnet, public_key)
    lab.known_hosts.write_text("".join(machine.host_key(host) for host in lab.machines), encoding="ascii")
    for host in lab.machines:
        machine.start(host)


def stop_lab(lab: Lab) -> None:
    """Shut every host down and take the lab's network away; the hosts' disks stay."""
    for host in lab.machines:
        machine.stop(host)
    network.remove_network(lab.name)


def remove_lab(lab: Lab) -> None:
    """Stop the lab and delete its hosts, keys and record. The cached base images stay."""
    stop_lab(lab)
    for host in lab.machines:
        machine.remove(host)
    shutil.rmtree(lab.folder)
