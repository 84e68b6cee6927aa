"""Helpers for tests: a node without sockets, a real server, and clients that misbehave."""
