"""One topic on this node: who receives it, and what was said in it during this tick."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.broker import Done
    from hub.client import Client
    from hub.history import History
    from hub.inbound import Since


class Topic:
    """State: the subscribers, those that the broker has yet to confirm, and the tick's batch."""

    __slots__ = ("batch", "behind", "history", "missed", "name", "subscribers", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        # A dict for its order: events go out in the order of joining.
        self.subscribers: dict[Client, None] = {}
        # Subscribers that catch up with the others first, each with the offset that it has read.
        self.behind: dict[Client, int] = {}
        self.history: History | None = None  # what they read
        # Who waits for the broker's confirmation; None once it has come.
        self.waiting: list[tuple[Client, Since | None, Done]] | None = []
        # Frames published in this tick and not yet handed to the subscribers.
        self.batch: list[bytes] = []
        # Behind which offset nothing is missing, where the subscribers are to be told of a gap
        # first (hub/gaps.py); None where they are not.
        self.missed: int | None = None

    @property
    def members(self) -> int:
        """How many are subscribed, those that catch up included."""
        return len(self.subscribers) + len(self.behind)

    @property
    def top(self) -> int:
        """The offset of the newest event; 0 without a history."""
        return 0 if self.history is None else self.history.top
