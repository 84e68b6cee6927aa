"""HTTP and WebSocket handlers: they turn requests into calls of the hub, and keep no state."""
