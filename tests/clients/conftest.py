"""What the tests of the Python client share."""

import pytest
from broadcast_client import _connection as connection


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the Python client's pauses very short."""
    monkeypatch.setattr(connection, "FIRST", 0.01)
    monkeypatch.setattr(connection, "LONGEST", 0.02)
    monkeypatch.setattr(connection, "GOODBYE", 0.05)
