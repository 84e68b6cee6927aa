"""A machine in namespaces: a root folder in which systemd is process 1.

It has its own processes, mounts, devices, network (the loopback alone), host name and control
group, and changes none of this machine's. systemd starts and confines services there as on any
machine.
"""

import ctypes
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

PATIENCE: Final = 600  # seconds for a command, and for the start
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_NAMESPACES: Final = "--pid --mount --uts --ipc --net --cgroup"
# Mounts what systemd expects, and replaces this shell by it. systemd passes credentials to services
# by mounts that must propagate, so all are shared. It must not change this machine's kernel
# parameters, so /proc/sys cannot be written.
_BOOT: Final = """
set -e
mount --make-rprivate /
ip link set lo up
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mkdir -p old
pivot_root . old
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /dev
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    set -- $node
    mknod -m 666 "/dev/$1" c "$2" "$3"
done
mkdir /dev/shm /dev/pts
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
umount -l old
mount --make-rshared /
exec env -i container=lxc PATH="$PATH" /lib/systemd/systemd --system --unit=multi-user.target
"""
_Value = TypeVar("_Value")


class Machine:
    """A running machine. State: its process 1."""

    def __init__(self, init: int) -> None:
        self._init = init

    def run(
        self, command: str, folder: str = "/", *, outside: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the shell in the machine.

        Args:
            command: the command.
            folder: in which it runs.
            outside: whether it has the network of this machine, such as to install packages.
        """
        spaces = "-p -m -u -i -C" if outside else "-p -m -u -i -C -n"
        place = [f"--root=/proc/{self._init}/root", f"--wd=/proc/{self._init}/root{folder}"]
        return subprocess.run(
            ["nsenter", "-t", str(self._init), *spaces.split(), *place, "bash", "-c", command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def output(self, command: str) -> str:
        """Run a command that must succeed, and return its output."""
        result = self.run(command)
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result.stdout.strip()

    def socket(self) -> socket.socket:
        """Return a socket in the network of the machine."""
        return self._in_its_network(socket.socket)

    def _in_its_network(self, call: Callable[[], _Value]) -> _Value:
        """Call a function in a thread that has entered the network of the machine."""
        results: list[_Value] = []

        def enter() -> None:
            with Path(f"/proc/{self._init}/ns/net").open() as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            results.append(call())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return results[0]


@contextmanager
def machine(root: Path) -> Iterator[Machine]:
    """Start a machine; it is stopped at the end of the block.

    Args:
        root: the folder of its files, with systemd and without iproute2.
    """
    with _control_group(f"machine-{os.getpid()}") as group:
        outer = subprocess.Popen(
            ["unshare", *_NAMESPACES.split(), "--fork", "--kill-child", "sh", "-c", _BOOT],
            env=os.environ | {"ROOT": str(root)},
            preexec_fn=lambda: (group / "cgroup.procs").write_text("0"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            it = Machine(_child_of(outer))
            _wait_until_it_runs(it, outer)
            yield it
        finally:
            outer.kill()
            outer.communicate()


def _child_of(outer: subprocess.Popen[str]) -> int:
    """Wait for the one child of a process, and return its id."""
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    end = time.monotonic() + PATIENCE
    while not (found := children.read_text().split()):
        assert outer.poll() is None, outer.stderr and outer.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)
    return int(found[0])


def _wait_until_it_runs(it: Machine, outer: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while it.run("systemctl is-system-running --wait").stdout not in ("running\n", "degraded\n"):
        assert outer.poll() is None, outer.stderr and outer.stderr.read()
        assert time.monotonic() < end, it.run("systemctl list-jobs").stdout
        time.sleep(0.05)


@contextmanager
def _control_group(name: str) -> Iterator[Path]:
    """Make a control group; at the end, kill its processes and remove it."""
    mounted = re.search(r"(?m)^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text())
    assert mounted is not None, "there is no cgroup2"
    group = Path(mounted[1]) / name
    group.mkdir()
    try:
        yield group
    finally:
        (group / "cgroup.kill").write_text("1")
        while "populated 1" in (group / "cgroup.events").read_text():
            time.sleep(0.01)
        for folder in sorted(group.rglob("*/"), reverse=True):
            folder.rmdir()
        group.rmdir()
