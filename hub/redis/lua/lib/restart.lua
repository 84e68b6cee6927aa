-- The entries of a history stream.
--
-- key_of(offset)               Return the ID of the entry with that offset.
-- number(text)                 Return a field as a number; 0 if another program has made it none.
-- restart(topic, fresh, ttl)   Begin an empty history under the epoch `fresh`, and return that
--                              epoch. The topic lives for at least LEASE seconds; `ttl` is in
--                              milliseconds.
--
-- Keys: history:TOPIC, events:TOPIC, lives
-- Needs: lifetime

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
