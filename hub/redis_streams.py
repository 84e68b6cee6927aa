"""The scripts for topics with a history: what Redis remembers of them.

    history:TOPIC    hash: its epoch, the offset of its newest event (top), the bytes of all that
                     were ever said in it, and of the longest
    events:TOPIC     stream: the newest events, each under OFFSET-0 with the time (ms) at which it
                     was said and the bytes before it
    lives            sorted set: topics with a history, by the time (ms) until which they live on
                     when nobody is subscribed; nodes with subscribers put that off, publishes do
                     not

A stream begins anew, under the epoch that the caller brings, where its epoch is missing (a new
topic, FLUSHALL), or where it says something else than the caller knows: a Redis that was restarted,
or a replica in its place, may have lost what was said last, and would give its offsets once more.
"""

from typing import Final

LIFE: Final = """
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function lives(topic)
  local till = redis.call('ZSCORE', P .. 'lives', topic)
  return till and tonumber(till) > now_ms()
end
local function forget(topic)
  redis.call('DEL', P .. 'history:' .. topic, P .. 'events:' .. topic)
  redis.call('ZREM', P .. 'lives', topic)
end
"""

_STREAM: Final = """
local function restart(topic, fresh)
  local history = P .. 'history:' .. topic
  redis.call('DEL', P .. 'events:' .. topic)
  redis.call('HSET', history, 'epoch', fresh, 'top', 0, 'bytes', 0, 'longest', 0)
  redis.call('ZADD', P .. 'lives', 'NX', now_ms() + LEASE * 1000, topic)
  return fresh
end
"""

# ARGV: topic, node, head of the envelope, 0 to look whether the topic exists, event, epoch if there
# is none, size, ttl in ms, bytes; with a key and what is to be remembered for it.
# {nodes, epoch, offset}; what was remembered, where the key is known; or -1.
# Bytes are counted only where so many events as may be there could have too many.
APPEND: Final = (
    _STREAM
    + """
local function trim(events, total, most)
  local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  while oldest and total - oldest[2][6] > most do
    redis.call('XDEL', events, oldest[1])
    oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  end
end
local topic, me, event, size = ARGV[1], ARGV[2], ARGV[5], ARGV[7]
local once = once_key(topic, ARGV[10])
local first = once and redis.call('GET', once)
if first then return first end
if not exists(topic, me) and not in_doubt(me, ARGV[4]) then return -1 end
local history, events = P .. 'history:' .. topic, P .. 'events:' .. topic
local was = redis.call('HMGET', history, 'epoch', 'top', 'bytes', 'longest')
local epoch = was[1] or restart(topic, ARGV[6])
local offset, before, longest = (was[2] or 0) + 1, was[3] or 0, math.max(was[4] or 0, #event)
local entry = {'e', event, 't', now_ms(), 'b', before}
redis.call('XADD', events, 'MAXLEN', size, offset .. '-0', unpack(entry))
redis.call('HSET', history, 'top', offset, 'bytes', before + #event, 'longest', longest)
local most = tonumber(ARGV[9])
if longest * size > most then trim(events, before + #event, most) end
redis.call('PEXPIRE', events, ARGV[8])
local place = epoch .. ' ' .. offset
local nodes = redis.call('PUBLISH', P .. 'topic:' .. topic, ARGV[3] .. place .. ' ' .. event)
if once then remember(once, me, nodes .. ' ' .. place .. ' ' .. ARGV[11]) end
return {nodes, epoch, offset}
"""
)

# ARGV: topic, epoch if there is none, size, ttl in ms, offset behind which to read (or, negative,
# how many of the newest); then a node, where the topic may be none, and nothing is begun; or the
# epoch that the caller knows, and the SHA-1 of its event at that offset ("" where it has none).
# {epoch, top, offset of the first event, events}, or false where there is no such topic.
READ: Final = (
    _STREAM
    + """
local topic, fresh, since = ARGV[1], ARGV[2], tonumber(ARGV[5])
local history, events = P .. 'history:' .. topic, P .. 'events:' .. topic
local known, digest = ARGV[6], ARGV[7]
if known and not digest and not exists(topic, known) then return false end
local epoch = redis.call('HGET', history, 'epoch') or restart(topic, fresh)
local top = tonumber(redis.call('HGET', history, 'top'))
if digest and known ~= epoch then
  since = 0
elseif digest then
  local last = redis.call('XRANGE', events, since .. '-0', since .. '-0')[1]
  if top < since or (last and digest ~= '' and redis.sha1hex(last[2][2]) ~= digest) then
    epoch, top, since = restart(topic, fresh), 0, 0
  end
end
if since < 0 then since = math.max(0, top + since) end
local first, said, young = top + 1, {}, now_ms() - tonumber(ARGV[4])
local entries = redis.call('XRANGE', events, (since + 1) .. '-0', '+', 'COUNT', ARGV[3])
for _, entry in ipairs(entries) do
  if #said > 0 or tonumber(entry[2][4]) > young then
    if #said == 0 then first = tonumber(string.match(entry[1], '^%d+')) end
    said[#said + 1] = entry[2][2]
  end
end
return {epoch, top, first, said}
"""
)

# ARGV: topic and ttl in ms by turns. Of each its epoch and top by turns; false where it has none.
LIVE: Final = """
local now, places = now_ms(), {}
for i = 1, #ARGV, 2 do
  local place = redis.call('HMGET', P .. 'history:' .. ARGV[i], 'epoch', 'top')
  if place[1] then redis.call('ZADD', P .. 'lives', now + tonumber(ARGV[i + 1]), ARGV[i]) end
  places[i], places[i + 1] = place[1], place[2]
end
return places
"""

# What has outlived its time goes, some of it with every beat. What somebody holds stays, and is
# looked at again: whoever holds it may die.
SWEEP: Final = """
local function sweep(me)
  local now = now_ms()
  for _, topic in ipairs(redis.call('ZRANGEBYSCORE', P .. 'lives', '-inf', now, 'LIMIT', 0, 100)) do
    if exists(topic, me) then
      redis.call('ZADD', P .. 'lives', now + LEASE * 1000, topic)
    else
      forget(topic)
    end
  end
end
"""
