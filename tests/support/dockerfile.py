"""The Dockerfile and its `.dockerignore`, parsed."""

import json
import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.support.process import ROOT


@dataclass
class Stage:
    """One `FROM` of the Dockerfile with the instructions under it, continuations joined."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [argument for found, argument in self.instructions if found == name]

    def one(self, name: str) -> str:
        (argument,) = self.all(name)
        return argument

    @property
    def labels(self) -> dict[str, str]:
        pairs = (pair.split("=", 1) for it in self.all("LABEL") for pair in shlex.split(it))
        return dict(pairs)

    @property
    def health(self) -> tuple[dict[str, str], list[str]]:
        """The options and the command of the HEALTHCHECK, which must be in exec form."""
        options, command = self.one("HEALTHCHECK").split("CMD ", 1)
        return dict(re.findall(r"--([a-z-]+)=(\S+)", options)), json.loads(command)


def _read_dockerfile() -> list[Stage]:
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text())
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        name, _, argument = line.partition(" ")
        if name == "FROM":
            stages.append(Stage(argument.split()[0]))
        elif name:
            stages[-1].instructions.append((name, argument))
    return stages


STAGES = _read_dockerfile()
BUILDER, FINAL = STAGES
# Files of the tree: sources and target. A COPY from another stage begins with an option.
COPIED = [tuple(copy.split()) for copy in BUILDER.all("COPY")]


def ignored(path: str) -> bool:
    """Return whether `.dockerignore` excludes `path`: the last matching pattern decides."""
    verdict = False
    parents = [str(Path(*Path(path).parts[: n + 1])) for n in range(len(Path(path).parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        names = Path(path).parts if "**/" in line else parents
        if line and line[0] != "#" and any(fnmatch(name, pattern) for name in names):
            verdict = line[0] != "!"
    return verdict
