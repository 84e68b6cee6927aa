"""What tests share: a node without sockets, a server with them, and clients that misbehave."""
