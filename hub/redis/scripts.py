"""What Redis keeps for a cluster, under one prefix, and the scripts that change it in one step.

    explicit          set: topics made by POST /topics
    leases:NODE       hash: the topics that a node is subscribed to, each with its subscribers; ""
                      counts its clients. It expires LEASE seconds after the node's last beat.
    nodes             sorted set: the nodes, by the time at which their leases expire
    topic:TOPIC       channel: the topic's events, in its one order
    once:DIGEST       string: what a publish with an idempotency key was answered, for REMEMBERED s;
                      the digest is of its topic and its key, which may be 65 KB
    keys:NODE         list: the newest digests that a node has made, each behind the time (ms) at
                      which it was, at most LIMIT; an answer and what belongs to it take less than
                      700 bytes, so those of one node take 70 MB at most
    node:NODE         channel: the node's own beats, which prove that it hears what is published

A topic exists while it is explicit, a node has a lease on it, or its history lives on
(history_scripts.py). Redis Cluster is not supported: the scripts build the names of keys from their
arguments.
"""

from dataclasses import dataclass
from typing import Final

from hub.brokers.idempotency import LIMIT, REMEMBERED
from hub.redis.history_scripts import APPEND, LIFE, LIVE, READ, SWEEP

LEASE: Final = 14  # seconds: with a beat of 1 s, what a dead node held is gone after at most 15

_EXISTS: Final = """
local function exists(topic, me)
  if redis.call('HEXISTS', P .. 'leases:' .. me, topic) == 1 then return true end
  if redis.call('SISMEMBER', P .. 'explicit', topic) == 1 then return true end
  for _, node in ipairs(redis.call('ZRANGE', P .. 'nodes', 0, -1)) do
    if redis.call('HEXISTS', P .. 'leases:' .. node, topic) == 1 then return true end
  end
  return lives(topic)
end
"""

# Whether others may have topics that the register does not know: just after a connect, or where the
# node's own leases are gone (FLUSHALL). Then a publish is never refused, and else it counts who
# hears the topic.
_IN_DOUBT: Final = """
local function in_doubt(me, force)
  return force == '1' or redis.call('EXISTS', P .. 'leases:' .. me) == 0
end
local function heard(topic)
  return redis.call('PUBSUB', 'NUMSUB', P .. 'topic:' .. topic)[2] > 0
end
"""

_ONCE: Final = """
local function once_key(topic, key)
  return key and P .. 'once:' .. redis.sha1hex(#topic .. ':' .. topic .. key)
end
local function remember(once, me, answer)
  redis.call('SET', once, answer, 'EX', REMEMBERED)
  local known, now = P .. 'keys:' .. me, now_ms()
  if redis.call('RPUSH', known, now .. ' ' .. once) > LIMIT then
    local said, oldest = string.match(redis.call('LPOP', known), '^(%d+) (.*)$')
    -- One that has run out may have been used anew since.
    if now - said < REMEMBERED * 1000 then redis.call('DEL', oldest) end
  end
  redis.call('EXPIRE', known, REMEMBERED)
end
"""

# ARGV: topic, node, envelope, 1 where others may not have joined yet. How many nodes got it, or -1.
# With a key and what is to be remembered for it: what was remembered, where the key is known.
_PUBLISH: Final = """
local topic, me = ARGV[1], ARGV[2]
local once = once_key(topic, ARGV[5])
local first = once and redis.call('GET', once)
if first then return first end
if not exists(topic, me) and not in_doubt(me, ARGV[4]) then return -1 end
local nodes = redis.call('PUBLISH', P .. 'topic:' .. topic, ARGV[3])
if once then remember(once, me, nodes .. ' - 0 ' .. ARGV[6]) end
return nodes
"""

# ARGV: topic, node, 1 where others may not have joined yet. 1, or 0 where it exists.
_CREATE: Final = """
local topic, me = ARGV[1], ARGV[2]
if exists(topic, me) or (in_doubt(me, ARGV[3]) and heard(topic)) then return 0 end
return redis.call('SADD', P .. 'explicit', topic)
"""

# ARGV: topic, node, envelope, 1 as above. 1, or 0 where there is none, or -1 where nobody knows.
_DELETE: Final = """
local topic, me = ARGV[1], ARGV[2]
if not exists(topic, me) then
  if not in_doubt(me, ARGV[4]) then return 0 end
  if not heard(topic) then return -1 end
end
redis.call('SREM', P .. 'explicit', topic)
forget(topic)
for _, node in ipairs(redis.call('ZRANGE', P .. 'nodes', 0, -1)) do
  redis.call('HDEL', P .. 'leases:' .. node, topic)
end
redis.call('PUBLISH', P .. 'topic:' .. topic, ARGV[3])
return 1
"""

# ARGV: node, 1 for the first lease of a connection, then topic and subscribers by turns. 1, or 0
# where the node's leases are gone: a lease alone in their place would hide that from the beat.
_LEASE: Final = """
local key = P .. 'leases:' .. ARGV[1]
if ARGV[2] == '1' then
  redis.call('HSETNX', key, '', 0)
elseif redis.call('EXISTS', key) == 0 then
  return 0
end
if #ARGV > 2 then redis.call('HSET', key, unpack(ARGV, 3)) end
return hold(ARGV[1])
"""

# ARGV: node, number of the beat, clients, then topic and subscribers by turns, where they changed.
# A topic that was deleted meanwhile stays so. 1, or 0 where the node's leases are gone.
_BEAT: Final = """
local key = P .. 'leases:' .. ARGV[1]
local kept = redis.call('EXISTS', key)
if kept == 1 then
  redis.call('HSET', key, '', ARGV[3])
  for i = 4, #ARGV, 2 do
    if redis.call('HEXISTS', key, ARGV[i]) == 1 then
      redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    end
  end
  hold(ARGV[1])
end
sweep(ARGV[1])
redis.call('PUBLISH', P .. 'node:' .. ARGV[1], ARGV[2])
return kept
"""

_HOLD: Final = """
local function hold(node)
  local now = tonumber(redis.call('TIME')[1])
  redis.call('EXPIRE', P .. 'leases:' .. node, LEASE)
  redis.call('ZADD', P .. 'nodes', now + LEASE, node)
  redis.call('ZREMRANGEBYSCORE', P .. 'nodes', '-inf', '(' .. now)
  return 1
end
"""


@dataclass(frozen=True, slots=True)
class Scripts:
    """The texts of the scripts for one prefix."""

    publish: str
    create: str
    delete: str
    lease: str
    beat: str
    append: str
    read: str
    live: str


class Names:
    """The keys and channels of one deployment."""

    def __init__(self, prefix: str, db: int = 0) -> None:
        """`db`: the database's number, for Redis' channels are the same ones in all of them."""
        self._prefix = f"{prefix}/{db}:" if db else f"{prefix}:"
        self._topic = f"{self._prefix}topic:".encode()
        self.explicit = f"{self._prefix}explicit"
        self.nodes = f"{self._prefix}nodes"
        self.lives = f"{self._prefix}lives"

    def scripts(self) -> Scripts:
        head = f"local P, LEASE = '{self._prefix}', {LEASE}\n"
        head += f"local REMEMBERED, LIMIT, HOUR = {REMEMBERED:.0f}, {LIMIT}, 3600000\n"
        register = head + LIFE + _EXISTS
        return Scripts(
            publish=register + _IN_DOUBT + _ONCE + _PUBLISH,
            create=register + _IN_DOUBT + _CREATE,
            delete=register + _IN_DOUBT + _DELETE,
            lease=head + _HOLD + _LEASE,
            beat=register + SWEEP + _HOLD + _BEAT,
            append=register + _IN_DOUBT + _ONCE + APPEND,
            read=register + READ,
            live=head + LIFE + LIVE,
        )

    def channel(self, topic: str) -> bytes:
        """The channel of a topic."""
        return self._topic + topic.encode()

    def topic(self, channel: bytes) -> str | None:
        """The topic of a channel; None where it is none of ours."""
        if not channel.startswith(self._topic):
            return None
        return channel[len(self._topic) :].decode()

    def leases(self, node: str) -> str:
        return f"{self._prefix}leases:{node}"

    def node(self, node: str) -> bytes:
        """The channel of a node's own beats."""
        return f"{self._prefix}node:{node}".encode()
