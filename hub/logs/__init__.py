"""The log: the catalogue of its lines, their formats and their limits."""
