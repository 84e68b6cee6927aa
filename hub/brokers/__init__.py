"""The contract with a broker, the broker of a single server, histories and idempotency keys."""
