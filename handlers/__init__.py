"""HTTP and WebSocket handlers, which turn requests into calls of the hub.

State: that of each connection, and the HTTP session that fetches the key set.
"""
