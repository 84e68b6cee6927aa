"""The scripts for topics with a history: what Redis remembers of them.

    history:TOPIC    hash: its epoch, the offset of its newest event (top), who said that (last:
                     run and number, envelope.py), the bytes of all that were ever said in it,
                     and of the longest; gone an hour after nobody has put off its end any more
    events:TOPIC     stream: the newest events, each under OFFSET-0 with the time (ms) at which it
                     was said, the bytes before it, and who said the one before it (p)
    lives            sorted set: topics with a history, by the time (ms) until which they live on
                     when nobody is subscribed; nodes with subscribers put that off, publishes do
                     not

A stream begins anew, under the epoch that the caller brings, where its epoch is missing (a new
topic, FLUSHALL), or where it says something else than the caller knows: a Redis that was restarted,
or a replica in its place, may have lost what was said last, and would give its offsets once more.

Others may have written to the keys too. An entry that no server has written is not read; where it
keeps the next event from being appended, the stream begins anew. A script that failed instead would
cost the node its connection, and all topics with it, again and again.
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
local function key_of(offset) return string.format('%.0f-0', offset) end
local function number(text) return tonumber(text) or 0 end
local function restart(topic, fresh, ttl)
  local history = P .. 'history:' .. topic
  redis.call('DEL', P .. 'events:' .. topic)
  redis.call('HSET', history, 'epoch', fresh, 'top', 0, 'bytes', 0, 'longest', 0, 'last', '')
  redis.call('PEXPIRE', history, ttl + HOUR)
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
  while oldest and total - number(oldest[2][6]) > most do
    redis.call('XDEL', events, oldest[1])
    oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  end
end
local function append(events, size, offset, event, before, said)
  local entry = {'e', event, 't', now_ms(), 'b', before, 'p', said or ''}
  return redis.pcall('XADD', events, 'MAXLEN', size, key_of(offset), unpack(entry))
end
-- Whether the error is that of a newer entry, or of another type of key; not that of a full memory.
local function is_in_the_way(reply)
  local err = reply.err
  return err and (string.find(err, 'equal or smaller') or string.find(err, 'WRONGTYPE'))
end
local topic, me, event, size = ARGV[1], ARGV[2], ARGV[5], ARGV[7]
local once = once_key(topic, ARGV[10])
local first = once and redis.call('GET', once)
if first then return first end
if not exists(topic, me) and not in_doubt(me, ARGV[4]) then return -1 end
local history, events = P .. 'history:' .. topic, P .. 'events:' .. topic
local was = redis.call('HMGET', history, 'epoch', 'top', 'bytes', 'longest', 'last')
local epoch, offset, before = was[1], number(was[2]) + 1, number(was[3])
local reply = epoch and append(events, size, offset, event, before, was[5])
if not epoch or is_in_the_way(reply) then
  epoch, offset, before, was = restart(topic, ARGV[6], ARGV[8]), 1, 0, {}
  reply = append(events, size, offset, event, before, '')
end
if reply.err then return reply end
local longest = math.max(number(was[4]), #event)
local last = string.sub(ARGV[3], 5, 20)
local bytes = before + #event
redis.call('HSET', history, 'top', offset, 'bytes', bytes, 'longest', longest, 'last', last)
local most = tonumber(ARGV[9])
if longest * size > most then trim(events, bytes, most) end
redis.call('PEXPIRE', events, ARGV[8])
local place = epoch .. ' ' .. offset
local nodes = redis.call('PUBLISH', P .. 'topic:' .. topic, ARGV[3] .. place .. ' ' .. event)
if once then remember(once, me, nodes .. ' ' .. place .. ' ' .. ARGV[11]) end
return {nodes, epoch, offset}
"""
)

# ARGV: topic, epoch if there is none, size, ttl in ms, offset behind which to read (or, negative,
# how many of the newest); then a node, where the topic may be none, and nothing is begun; or the
# epoch that the caller knows, and who said the event at that offset ("" where it does not know).
# {epoch, top, offset of the first event, events, the age of each in ms, who said the newest}, or
# false where there is no such topic.
READ: Final = (
    _STREAM
    + """
local topic, fresh, ttl, since = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local history, events = P .. 'history:' .. topic, P .. 'events:' .. topic
local known, last = ARGV[6], ARGV[7]
if known and not last and not exists(topic, known) then return false end
local epoch = redis.call('HGET', history, 'epoch')
-- An epoch goes into ids as it is: what is none of ours is not handed on.
if not epoch or not string.match(epoch, '^%w+$') then epoch = restart(topic, fresh, ttl) end
local top = number(redis.call('HGET', history, 'top'))
if last and known ~= epoch then
  since = 0
elseif last then
  local after = redis.call('XRANGE', events, key_of(since + 1), key_of(since + 1))[1]
  local said = after and after[2][8] or top == since and redis.call('HGET', history, 'last')
  if top < since or (last ~= '' and said and said ~= last) then
    epoch, top, since = restart(topic, fresh, ttl), 0, 0
  end
end
if since < 0 then since = math.max(0, top + since) end
local first, said, ages, now = top + 1, {}, {}, now_ms()
local entries = redis.call('XRANGE', events, key_of(since + 1), key_of(top), 'COUNT', ARGV[3])
for _, entry in ipairs(entries) do
  local offset, age = tonumber(string.match(entry[1], '^(%d+)-0$')), now - number(entry[2][4])
  if offset and (#said > 0 or age < ttl) then
    if offset ~= first + #said then first, said, ages = offset, {}, {} end
    said[#said + 1], ages[#ages + 1] = entry[2][2], age
  end
end
return {epoch, top, first, said, ages, redis.call('HGET', history, 'last')}
"""
)

# ARGV: topic and ttl in ms by turns. Of each its epoch and top by turns; false where it has none.
LIVE: Final = """
local now, places = now_ms(), {}
for i = 1, #ARGV, 2 do
  local place = redis.call('HMGET', P .. 'history:' .. ARGV[i], 'epoch', 'top')
  if place[1] then
    redis.call('ZADD', P .. 'lives', now + ARGV[i + 1], ARGV[i])
    redis.call('PEXPIRE', P .. 'history:' .. ARGV[i], ARGV[i + 1] + HOUR)
  end
  places[i], places[i + 1] = place[1], place[2]
end
return places
"""

# What has outlived its time goes, some of it with every beat. What somebody holds stays, and is
# looked at again: whoever holds it may die. What was made on purpose stays for ever.
SWEEP: Final = """
local function sweep(me)
  local now = now_ms()
  local over = redis.call('ZRANGEBYSCORE', P .. 'lives', '-inf', now, 'LIMIT', 0, 1000)
  for _, topic in ipairs(over) do
    if exists(topic, me) then
      redis.call('ZADD', P .. 'lives', now + LEASE * 1000, topic)
      if redis.call('SISMEMBER', P .. 'explicit', topic) == 1 then
        redis.call('PERSIST', P .. 'history:' .. topic)
      end
    else
      forget(topic)
    end
  end
end
"""
