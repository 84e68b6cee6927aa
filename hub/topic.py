"""One topic on this node: who receives it, and what was said in it during this tick."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.broker import Done
    from hub.client import Client


class Topic:
    """State: the subscribers, those that the broker has yet to confirm, and the tick's batch."""

    __slots__ = ("batch", "missed", "name", "subscribers", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        # A dict for its order: events go out in the order of joining.
        self.subscribers: dict[Client, None] = {}
        # Who waits for the broker's confirmation; None once it has come.
        self.waiting: list[tuple[Client, Done]] | None = []
        # Frames published in this tick and not yet handed to the subscribers.
        self.batch: list[bytes] = []
        self.missed = False  # whether the subscribers are to be told of a gap first (hub/gaps.py)
