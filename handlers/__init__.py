"""HTTP and WebSocket handlers, which turn requests into calls of the hub.

State: that of each connection, of log limits, and of the key set's HTTP session.
"""
