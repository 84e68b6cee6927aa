"""Encoding and decoding of frames, messages and requests, without sockets, clocks or clients."""
