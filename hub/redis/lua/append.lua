-- Append an event to a topic's history, give it an offset, and publish it.
--
-- Keys:  history:TOPIC, events:TOPIC, explicit, nodes, leases:NODE, lives; once:DIGEST and
--        keys:NODE with an idempotency key
-- ARGV:  1 topic
--        2 node
--        3 header of the envelope
--        4 force: 1 to publish to a topic that no node has registered
--        5 event
--        6 epoch to begin if the topic has none
--        7 size: events to keep
--        8 ttl: milliseconds to keep an event
--        9 bytes of events to keep
--        10 idempotency key (optional)
--        11 what to remember for that key (with 10)
-- Reply: {nodes, epoch, offset}; -1 if the topic does not exist;
--        the remembered answer, a string, if the key was used before

-- Delete the oldest events until the rest take at most `most` bytes.
local function trim(events, total, most)
  local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  while oldest and total - number(oldest[2][6]) > most do
    redis.call('XDEL', events, oldest[1])
    oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
  end
end
-- Append an entry; return an error table if the stream does not accept it.
local function append(events, size, offset, event, before, last)
  local entry = {'e', event, 't', now_ms(), 'b', before, 'p', last or ''}
  return redis.pcall('XADD', events, 'MAXLEN', size, key_of(offset), unpack(entry))
end
-- Return true for an error that a restart mends: a newer entry, or a key of another type. The
-- script returns other errors, such as OOM, to its caller.
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
-- Read the stream only if its events, all of the longest size, could take too many bytes.
if longest * size > most then trim(events, bytes, most) end
redis.call('PEXPIRE', events, ARGV[8])
local place = epoch .. ' ' .. offset
local nodes = redis.call('PUBLISH', P .. 'topic:' .. topic, ARGV[3] .. place .. ' ' .. event)
if once then remember(once, me, nodes .. ' ' .. place .. ' ' .. ARGV[11]) end
return {nodes, epoch, offset}
