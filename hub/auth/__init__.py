"""Identifies callers: API keys, tokens and the keys that verify them. Pure: without I/O."""
