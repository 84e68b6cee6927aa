"""The broker that connects several servers through Redis."""
