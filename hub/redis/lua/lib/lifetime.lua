-- The lifetime of topics with a history.
--
-- now_ms()        Return the time of this Redis, in milliseconds.
-- lives(topic)    Return true while the topic's history lives on.
-- forget(topic)   Delete the topic's history.
--
-- Keys: lives, history:TOPIC, events:TOPIC

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
