-- Read a topic's history, and begin it if the topic has none.
--
-- A caller that passes its position (5 to 7) continues from there. If the stream contradicts it,
-- Redis came back without its newest writes (a restart, or a replica that took over) and would give
-- the same offsets a second time. The history then begins again under the caller's new epoch.
--
-- Keys:  history:TOPIC, events:TOPIC, lives; explicit, nodes and leases:NODE with a node
-- ARGV:  1 topic
--        2 epoch to begin if the topic has none, or if the stream contradicts the caller
--        3 size: events to return at most
--        4 ttl: milliseconds to keep an event
--        5 offset after which to read; if negative, the number of the newest events to read
--        6 node (without 7): do not begin a history if the topic does not exist
--          known epoch (with 7)
--        7 identity of the event at that offset (hub/redis/envelope.py); '' if unknown
-- Reply: {epoch, top, offset of the first event, events, the age of each in milliseconds,
--        identity of the newest}; false if the topic does not exist

local topic, fresh, ttl, since = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
local history, events = P .. 'history:' .. topic, P .. 'events:' .. topic
local known, last = ARGV[6], ARGV[7]
if known and not last and not exists(topic, known) then return false end
local epoch = redis.call('HGET', history, 'epoch')
-- Epochs become part of event ids without escaping: replace one that no server has written.
if not epoch or not string.match(epoch, '^%w+$') then epoch = restart(topic, fresh, ttl) end
local top = number(redis.call('HGET', history, 'top'))
if last and known ~= epoch then
  since = 0
elseif last then
  local after = redis.call('XRANGE', events, key_of(since + 1), key_of(since + 1))[1]
  local ident = after and after[2][8] or top == since and redis.call('HGET', history, 'last')
  if top < since or (last ~= '' and ident and ident ~= last) then
    epoch, top, since = restart(topic, fresh, ttl), 0, 0
  end
end
if since < 0 then since = math.max(0, top + since) end
local first, found, ages, now = top + 1, {}, {}, now_ms()
local entries = redis.call('XRANGE', events, key_of(since + 1), key_of(top), 'COUNT', ARGV[3])
for _, entry in ipairs(entries) do
  local offset, age = tonumber(string.match(entry[1], '^(%d+)-0$')), now - number(entry[2][4])
  if offset and (#found > 0 or age < ttl) then
    if offset ~= first + #found then first, found, ages = offset, {}, {} end
    found[#found + 1], ages[#ages + 1] = entry[2][2], age
  end
end
return {epoch, top, first, found, ages, redis.call('HGET', history, 'last')}
