-- sweep(me)   Delete up to 1,000 histories whose lifetime has ended. A topic that still exists
--             keeps its history and is checked again after LEASE seconds, because the node that
--             holds it may die. The history of an explicitly created topic never expires.
--
-- Keys: lives, history:TOPIC, events:TOPIC, explicit, leases:NODE, nodes
-- Needs: lifetime, exists

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
