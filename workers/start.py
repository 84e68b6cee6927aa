"""The start of a worker: what the parent passes to it, in one environment variable."""

import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final, NamedTuple

import orjson

VARIABLE: Final = "BROADCAST_WORKER"


class Start(NamedTuple):
    """The data for a worker's start. It inherits the file descriptors from its parent."""

    number: int  # of the worker, from 1 on
    workers: int  # the number of all workers
    channel: int  # the descriptor of its end of the socket pair
    sockets: Sequence[Sequence[int]]  # the descriptors of the listening sockets, by part

    def variable(self) -> Mapping[str, str]:
        """Return the variable for the environment of the worker."""
        return {VARIABLE: orjson.dumps(self._asdict()).decode()}

    def files(self) -> list[int]:
        """Return all descriptors."""
        return [self.channel, *(file for part in self.sockets for file in part)]


def take_start(environ: MutableMapping[str, str]) -> Start | None:
    """Remove the variable from the environment and return its content; None if it is not set.

    Without the variable, this process is not a worker.
    """
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    start = Start(**orjson.loads(text))
    for file in start.files():
        os.set_inheritable(file, False)
    return start
