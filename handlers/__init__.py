"""The edge: HTTP and WebSocket requests in, calls of the hub out. No state is kept in here."""
