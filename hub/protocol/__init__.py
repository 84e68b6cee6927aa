"""Bytes and JSON, both ways. Pure: nothing here knows a socket, a clock or a client."""
