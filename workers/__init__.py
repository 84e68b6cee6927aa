"""Several processes that serve one port: the parent, its workers, and how they talk."""
