"""The contract with a broker, the broker of a single server, and what both kinds remember."""
