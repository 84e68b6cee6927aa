"""The event loop of the tests."""

import warnings

import uvloop


class Loop(uvloop.Loop):
    """A uvloop whose close() raises a warning about a transport that is still open.

    uvloop 0.23 warns in a callback of libuv. A warning that is an error there skips the close of
    the transport, and close() waits for it for ever.
    """

    def close(self) -> None:
        with warnings.catch_warnings(record=True) as unclosed:
            warnings.simplefilter("always")
            super().close()
        for warning in unclosed:
            warnings.warn(str(warning.message), warning.category, stacklevel=2)
