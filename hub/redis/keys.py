"""The keys and channels that a deployment uses in Redis, all under one prefix.

    explicit          set: the topics created by POST /topics
    leases:NODE       hash: the topics that a node is subscribed to, each with its number of
                      subscribers; the field "" counts the node's clients. It expires LEASE
                      seconds after the node's last beat.
    nodes             sorted set: the nodes, by the time (s) at which their leases expire
    topic:TOPIC       channel: the topic's events and deletions, in one order for all nodes
    bans              sorted set: the banned subjects, by the time (s) at which their bans end
    control           channel: disconnects and bans, for all nodes (hub/redis/control.py)
    node:NODE         channel: the node's own beats, which prove that it receives messages
    peer:NODE         channel: questions of other nodes to the node, and notices that they have
                      answered its own (hub/redis/questions.py)
    answer:ASKER:NUMBER:NODE
                      string: a node's answer to a question of another node, as JSON, for 5 seconds
    once:DIGEST       string: the answer to a publish with an idempotency key, for REMEMBERED
                      seconds; the digest is of the topic and the key, which may be 65 KB
    keys:NODE         list: the newest digests that a node has written, each after the time (ms) of
                      the publish, LIMIT at most. An answer with its entry here takes less than 700
                      bytes, so the answers of one node take 70 MB at most.
    history:TOPIC     hash: the epoch, the offset of the newest event (top), its identity (last:
                      run and number of its sender, hub/redis/envelope.py), the bytes of all events
                      ever published (bytes), and of the longest one (longest). It expires an hour
                      after the end of its lifetime.
    events:TOPIC      stream: the newest events, each with the ID OFFSET-0 and the fields e (the
                      event), t (time of the publish, ms), b (bytes of the events before it) and
                      p (identity of the event before it)
    lives             sorted set: the topics with a history, by the time (ms) until which they live
                      without subscribers. Nodes with subscribers extend it; publishes do not.

A topic exists while it is in `explicit`, while a node has a lease on it, or while its history
lives on. Other programs may write to the keys: an entry of a stream whose ID is not of a server's
form is not read, and if it prevents the next event from being appended, the history begins again.
A script that failed instead would end the node's connection again and again. Redis Cluster is not
supported: the scripts build key names from their arguments.
"""


class Keys:
    """Names the keys and channels of one deployment."""

    def __init__(self, prefix: str, db: int = 0) -> None:
        """`db`: the number of the database. Channels are not separated by database in Redis."""
        self.prefix = f"{prefix}/{db}:" if db else f"{prefix}:"
        self._topic = f"{self.prefix}topic:".encode()
        self.explicit = f"{self.prefix}explicit"
        self.nodes = f"{self.prefix}nodes"
        self.lives = f"{self.prefix}lives"
        self.bans = f"{self.prefix}bans"
        self.control = f"{self.prefix}control".encode()

    def channel(self, topic: str) -> bytes:
        """Return the channel of a topic."""
        return self._topic + topic.encode()

    def topic(self, channel: bytes) -> str | None:
        """Return the topic of a channel; None if it is not the channel of a topic."""
        if not channel.startswith(self._topic):
            return None
        return channel[len(self._topic) :].decode()

    def leases(self, node: str) -> str:
        """Return the key of a node's leases."""
        return f"{self.prefix}leases:{node}"

    def node(self, node: str) -> bytes:
        """Return the channel of a node's own beats."""
        return f"{self.prefix}node:{node}".encode()

    def peer(self, node: str) -> bytes:
        """Return the channel of the messages of other nodes to a node."""
        return f"{self.prefix}peer:{node}".encode()

    def answer(self, asker: str, number: int, node: str) -> str:
        """Return the key of a node's answer to a question, given by its asker and number."""
        return f"{self.prefix}answer:{asker}:{number}:{node}"
