"""Pub/sub without HTTP: clients, topics, and the messages between them."""
