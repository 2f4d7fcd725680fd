"""One test host: an overlay on the base image, booted by systemd-nspawn in a session and network of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from dbkeep.errors import DbkeepError
from dbkeep.lab.base import USER
from dbkeep.lab.network import Subnet, bridge_name
from dbkeep.lab.paths import CACHE, lab_directory

SPAWN_SECONDS = 3
BOOT_SECONDS = 60
STOP_SECONDS = 30
APT_REPOSITORY = Path("/srv/dbkeep-apt")


@dataclass(frozen=True, slots=True)
class Machine:
    """A test host of a lab. Its folder holds the overlay (`upper`, `work`, `root`) and its console log."""

    lab: str
    name: str
    address: str
    image: Path

    @property
    def folder(self) -> Path:
        return lab_directory(self.lab) / "hosts" / self.name

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def upper(self) -> Path:
        return self.folder / "upper"


def create(machine: Machine, subnet: Subnet, public_key: str) -> None:
    """Write the host's overlay: name, address, host key and the one SSH key that may log in. Does nothing twice."""
    if machine.folder.is_dir():
        return
    unfinished = machine.folder.with_name(f"{machine.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    for part in ("upper", "work", "root"):
        (unfinished / part).mkdir(parents=True)
    upper = unfinished / "upper"
    network = f"""\
[Match]
Name=host0

[Network]
Address={machine.address}/{subnet.prefixlen}
Gateway={subnet[1]}
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
    _write(upper / "etc/hostname", f"{machine.name}\n")
    _write(upper / "etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{machine.address} {machine.name}\n")
    _write(upper / "etc/systemd/network/10-host0.network", network)
    keys = upper / f"home/{USER}/.ssh/authorized_keys"
    _write(keys, public_key)
    owner = _owner(machine.image)
    for path, mode in ((keys.parent.parent, 0o700), (keys.parent, 0o700), (keys, 0o600)):
        os.chown(path, *owner)
        path.chmod(mode)
    (upper / "etc/ssh").mkdir()
    host_key = upper / "etc/ssh/ssh_host_ed25519_key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", machine.name, "-f", str(host_key)],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    unfinished.rename(machine.folder)


def _owner(image: Path) -> tuple[int, int]:
    for line in (image / "etc/passwd").read_text(encoding="utf-8").splitlines():
        fields = line.split(":")
        if fields[0] == USER:
            return int(fields[2]), int(fields[3])
    raise DbkeepError(f"the base image {image} has no user {USER}; remove that folder and run this again")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def host_key(machine: Machine) -> str:
    """Return the host's SSH public key in the form of a known_hosts line."""
    kind, key = (machine.upper / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii").split()[:2]
    return f"{machine.address} {kind} {key}\n"


def nspawn_process(machine: Machine) -> int | None:
    """Return the process id of the host's systemd-nspawn, found by the host's own root folder among its arguments."""
    wanted = str(machine.root)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith(b"systemd-nspawn") and wanted.encode() in arguments:
            return int(entry.name)
    return None


def start(machine: Machine) -> None:
    """Boot the host if it does not run, and return when its SSH server answers.

    Raises DbkeepError with the end of its console when it does not come up.
    """
    if nspawn_process(machine) is None:
        _mount(machine)
        _spawn(machine)
    started = time.monotonic()
    while not _answers(machine.address):
        # It takes a moment from setsid's return to nspawn's own command line.
        if nspawn_process(machine) is None and time.monotonic() > started + SPAWN_SECONDS:
            raise DbkeepError(f"test host {machine.name} did not start: {_console(machine)}")
        if time.monotonic() > started + BOOT_SECONDS:
            raise DbkeepError(
                f"test host {machine.name} did not answer at {machine.address}:22 within {BOOT_SECONDS} s: "
                f"{_console(machine)}"
            )
        time.sleep(0.1)


def _mount(machine: Machine) -> None:
    if machine.root.is_mount():
        return
    options = f"lowerdir={machine.image},upperdir={machine.upper},workdir={machine.folder / 'work'}"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(machine.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DbkeepError(f"the root of test host {machine.name} cannot be mounted: {done.stderr.strip()}")


def _spawn(machine: Machine) -> None:
    # Debian 13's systemd does not boot on cgroup v1, whatever the machine itself uses.
    environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    command = [
        "systemd-nspawn",
        "--quiet",
        "--keep-unit",
        "--register=no",
        "--boot",
        "--directory",
        str(machine.root),
        "--machine",
        f"{machine.lab}-{machine.name}",
        f"--network-bridge={bridge_name(machine.lab)}",
        "--resolv-conf=copy-host",
        f"--bind-ro={CACHE / 'apt'}:{APT_REPOSITORY}",
        # Without it nspawn filters mlock(2), with which mongod keeps its keys out of swap and core files.
        "--capability=CAP_IPC_LOCK",
    ]
    (CACHE / "apt").mkdir(parents=True, exist_ok=True)
    with (machine.folder / "console.log").open("wb") as console:
        subprocess.run(
            ["setsid", "--fork", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            check=True,
        )


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _console(machine: Machine) -> str:
    try:
        lines = (machine.folder / "console.log").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return "it wrote no console log"
    said = " / ".join(line.strip() for line in lines if line.strip())[-300:]
    return f"{said} (whole console: {machine.folder}/console.log)"


def stop(machine: Machine) -> None:
    """Shut the host down in order (PID 1 gets SIGRTMIN+3) and unmount its root; kill it when that takes too long."""
    process = nspawn_process(machine)
    if process is not None:
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while nspawn_process(machine) == process:
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.1)
    if machine.root.is_mount():
        subprocess.run(["umount", "--lazy", str(machine.root)], check=True)


def remove(machine: Machine) -> None:
    """Stop the host and delete all it held."""
    stop(machine)
    shutil.rmtree(machine.folder, ignore_errors=False) if machine.folder.is_dir() else None
