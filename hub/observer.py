"""What the hub reports as it happens: clients that come and go, and their subscriptions.

State: none. The hub calls an observer's methods at the moment itself, so they must be short and
never fail.
"""

from hub.delivery.client import Client


class Observer:
    """Ignores everything. Override what you want to see."""

    def joined(self, client: Client) -> None:
        """A client has connected."""

    def left(self, client: Client, reason: str) -> None:
        """A client's connection is over; `reason` is a word of `hub.errors.REASONS`."""

    def subscribed(self, client: Client, topic: str) -> None:
        """A client has become a subscriber of a topic."""

    def unsubscribed(self, client: Client, topic: str) -> None:
        """A client has ended its subscription to a topic, or the topic was deleted."""
