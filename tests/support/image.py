"""The image, built from the Dockerfile by buildah, and a container of it without an engine."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.dockerfile import FINAL
from tests.support.process import ROOT

PATIENCE = 600  # seconds for a command
# Runs a command as the image's user in its root, which cannot be written. There is one process, so
# a signal reaches the command.
ENTER = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -o remount,bind,ro "$ROOT"
exec chroot "$ROOT" setpriv --reuid="$UID_" --regid="$GID_" --clear-groups --no-new-privs \\
    --bounding-set=-all --inh-caps=-all --ambient-caps=-all env -i -C "$FOLDER" "$@"
"""


class Image:
    """A built image. State: the folder of its files, and its configuration."""

    def __init__(self, root: Path, config: dict[str, Any]) -> None:
        self.root = root
        self.config = config

    def run(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        """Start a command as an engine does with read_only, cap_drop: ALL and no-new-privileges.

        The network is that of this machine.
        """
        user, group = self.config["User"].split(":")
        given = {
            "ROOT": str(self.root),
            "UID_": user,
            "GID_": group,
            "FOLDER": self.config["WorkingDir"],
        }
        variables = [*self.config["Env"], *(f"{key}={value}" for key, value in environ.items())]
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", ENTER, "sh", *variables, *command],
            env=os.environ | given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


class Builder:
    """Calls buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self._storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]

    def __call__(self, *arguments: str) -> str:
        result = subprocess.run(
            ["buildah", *self._storage, *arguments],
            cwd=ROOT,
            env=os.environ | {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 0, f"{arguments}: {result.stderr[-2_000:]}"
        return result.stdout.strip()


@contextmanager
def built(folder: Path, base: Path) -> Iterator[Image]:
    """Build the image; it exists until the end of the block.

    Args:
        folder: for the files of buildah.
        base: the files of the base image.
    """
    buildah = Builder(folder)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(base), "/")
    buildah("commit", "--quiet", "--format", "docker", "--rm", container, FINAL.base)
    buildah("bud", "--quiet", "--pull-never", "--format", "docker", "--tag", "built", ".")
    config = json.loads(buildah("inspect", "--type", "image", "built"))["Docker"]["config"]
    container = buildah("from", "--pull-never", "built")
    try:
        yield Image(Path(buildah("mount", container)), config)
    finally:
        buildah("rm", container)
