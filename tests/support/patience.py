"""How long the tests wait for what must happen: long, since only a failure takes the time."""

PATIENCE = 60  # seconds, of which an idle machine needs one
