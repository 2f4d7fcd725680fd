"""The base image of a Debian release: debootstrap's minimal system plus what a fresh cloud image has (SSH, sudo)."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from dbkeep.child import contained
from dbkeep.errors import DbkeepError, UsageError
from dbkeep.lab.paths import CACHE, RELEASES, locked

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-apt",
    "openssh-server",
    "iproute2",
    "sudo",
    "ca-certificates",
)
USER = "ops"


def image_of(release: str) -> Path:
    """Return where the base image of `release` is or will be; its name changes with what this module puts into it.

    A host's overlay needs the image it was made on for as long as it lives, so an image is never changed.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return CACHE / "base" / f"{release}-{recipe[:8]}"


def make_base_image(image: Path, release: str) -> None:
    """Make the base image of `release` in the folder `image` unless it is there.

    Raises UsageError for an unknown release, DbkeepError when debootstrap fails (no network, full disk).
    """
    if release not in RELEASES:
        raise UsageError(f"there is no base image for {release!r}; choose one of {', '.join(RELEASES)}")
    with locked(image.with_name(f"{image.name}.lock"), busy=None):
        if not image.is_dir():
            unfinished = image.with_name(f"{image.name}.unfinished")
            if unfinished.exists():
                shutil.rmtree(unfinished)
            _debootstrap(release, unfinished)
            _prepare(unfinished, release)
            unfinished.rename(image)


def _debootstrap(release: str, target: Path) -> None:
    done = subprocess.run(
        contained(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", release, str(target)]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("E:", "W:"))]
        raise DbkeepError(
            f"debootstrap of {release} failed: {errors[-1] if errors else done.stderr.strip()[-200:]}; "
            f"check that this machine reaches a Debian mirror (details in {target}/debootstrap/debootstrap.log)"
        )


def _prepare(image: Path, release: str) -> None:
    """Make the image a template: no identity of its own, one SSH user with sudo, updates from the security suite."""
    sources = image / "etc/apt/sources.list"
    mirror = sources.read_text(encoding="utf-8").split()[1]
    security = mirror.rstrip("/").removesuffix("debian") + "debian-security"
    sources.write_text(
        f"deb {mirror} {release} main\ndeb {mirror} {release}-updates main\ndeb {security} {release}-security main\n",
        encoding="utf-8",
    )
    for key in (image / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (image / "etc/machine-id").write_text("", encoding="utf-8")
    (image / "etc/hostname").unlink(missing_ok=True)
    _chroot(image, ["useradd", "--create-home", "--shell", "/bin/bash", USER])
    sudoers = image / f"etc/sudoers.d/{USER}"
    sudoers.write_text(f"{USER} ALL=(ALL) NOPASSWD:ALL\n", encoding="utf-8")
    sudoers.chmod(0o440)
    _chroot(image, ["systemctl", "enable", "systemd-networkd.service"])
    for archive in (image / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()


def _chroot(image: Path, command: list[str]) -> None:
    done = subprocess.run(
        ["chroot", str(image), *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DbkeepError(f"{' '.join(command)} failed in {image}: {done.stderr.strip()[-200:]}")
