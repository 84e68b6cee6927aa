"""The number of cores that this process may use."""

import os
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Return the whole cores that this process may use: at least 1.

    The scheduler's affinity limits them, and so does `cpu.max` of its control group and of those
    above it (cgroup v2), which is what an engine's limit of CPUs sets.

    `root`: the folder that has `proc` and `sys`.
    """
    cores = float(len(os.sched_getaffinity(0)))
    top = root / "sys/fs/cgroup"
    group = top / _group(root).lstrip("/")
    while group.is_relative_to(top):
        cores = min(cores, _quota(group / "cpu.max"))
        group = group.parent
    return max(1, int(cores))


def _group(root: Path) -> str:
    """Return the path of this process's control group; the top one if it cannot be read."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return "/"
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")


def _quota(file: Path) -> float:
    """Return the cores of a control group by its `cpu.max`: "max 100000" or "150000 100000"."""
    try:
        quota, period = file.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # there is no such file, or no limit
        return float("inf")
