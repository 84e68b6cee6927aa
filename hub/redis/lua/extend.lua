-- Extend the lifetime of topics with a history, and return their positions.
--
-- Keys:  lives, history:TOPIC
-- ARGV:  pairs of topic and ttl in milliseconds
-- Reply: pairs of epoch and top, in the same order; {false, false} for a topic without a history

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
