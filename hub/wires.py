"""The table of WebSocket subprotocols: how messages are written to a client that selects one."""

from collections.abc import Callable
from typing import Final

from hub.delivery.framing import WEBSOCKET, Framing

# A handshake selects the first subprotocol that the client offers and that is listed here. The
# empty one is for a client that offers none of them.
WIRES: Final[dict[str, Callable[[], Framing]]] = {"": lambda: WEBSOCKET}
