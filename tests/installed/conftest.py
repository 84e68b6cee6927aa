"""A small Debian, made by debootstrap, in which the image is built and the unit is started.

These tests need Linux, root, the packages buildah, debootstrap, systemd and util-linux, a mirror of
Debian and a registry of Python packages. A container engine and a registry of images are not
needed: Debian's Python 3.11 takes the place of the base image. The mirror is that of this
machine's apt.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import find, without

SUITE = "bookworm"  # its Python is 3.11, as that of the image
PACKAGES = (
    "ca-certificates,curl,make,python-is-python3,python3,python3-pip,python3-venv,"
    "redis-server,systemd"
)
PROGRAMS = ("apt-get", "buildah", "chroot", "debootstrap", "nsenter", "setpriv", "unshare")
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
PATIENCE = 600  # seconds for a command; a mirror may be slow


def mirror() -> str:
    """Return the address of the Debian mirror that this machine uses."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A folder in memory, 2 GB of which are used; on a disk, dpkg would wait for every file."""
    if os.getuid() != 0:
        without("root")
    for name in PROGRAMS:
        find(name)
    with tempfile.TemporaryDirectory(prefix="installed-") as name:
        folder = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def debian(workshop: Path) -> Path:
    """The root folder of a small Debian; it trusts the certificates that this machine trusts."""
    root = workshop / "debian"
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, root, mirror()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stdout[-2_000:] + result.stderr
    if (trusted := Path("/", CERTIFICATES)).exists():
        shutil.copy(trusted, root / CERTIFICATES)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")  # an installer would write it
    return root
