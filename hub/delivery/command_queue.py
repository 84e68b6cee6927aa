"""One client's commands: those that await the broker, and those that are queued."""

from collections import deque
from collections.abc import Callable

from hub.errors import Refusal
from hub.protocol.commands import Command


class CommandQueue:
    """State: the commands under way and queued, and why reading is paused.

    hub/dispatcher.py changes it. Reading is paused for two reasons: enough commands are under way
    (`held`), or one read brought more frames than a tick handles (`unread`).
    """

    __slots__ = ("awaiting", "backlog", "exclusive", "held", "unread")

    def __init__(self) -> None:
        self.awaiting = 0  # commands that the broker has yet to complete
        self.exclusive = False  # whether one of them must complete before any other starts
        self.backlog: deque[Command | Refusal] | None = None  # None if none are queued
        self.held = False
        self.unread: Callable[[], None] | None = None  # handles the remaining frames
