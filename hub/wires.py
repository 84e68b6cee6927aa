"""The wires of WebSocket connections: the ways to write messages to a client, by subprotocol."""

from collections.abc import Callable
from typing import Final

from hub.delivery.framing import WEBSOCKET, Framing

# A handshake selects the first subprotocol of the client that is here. The empty one is for
# a client that offers none of them.
WIRES: Final[dict[str, Callable[[], Framing]]] = {"": lambda: WEBSOCKET}
