"""Events on their way to clients: fan-out, send queues, recovery, gaps and keepalive."""
