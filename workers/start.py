"""What the parent tells a worker at its start, in one environment variable."""

import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final, NamedTuple

import orjson

VARIABLE: Final = "BROADCAST_WORKER"


class Start(NamedTuple):
    """What a worker is told at its start; the files are descriptors that it inherits."""

    number: int  # from 1 on
    workers: int  # that there are
    channel: int  # its end of the socket pair
    sockets: Sequence[Sequence[int]]  # those that listen, in a part for each worker

    def variable(self) -> Mapping[str, str]:
        """Return the variable for the environment of the worker."""
        return {VARIABLE: orjson.dumps(self._asdict()).decode()}

    def files(self) -> list[int]:
        """Return all descriptors."""
        return [self.channel, *(file for part in self.sockets for file in part)]


def take_start(environ: MutableMapping[str, str]) -> Start | None:
    """Return what the parent tells this process, and remove it; None if it is no worker."""
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    start = Start(**orjson.loads(text))
    for file in start.files():
        os.set_inheritable(file, False)
    return start
