-- exists(topic, me)   Return true if a topic exists: a node has a lease on it, it was created
--                     explicitly, or its history lives on. The lease of node `me` is looked up
--                     first, because that is the usual case.
--
-- Keys: leases:NODE, explicit, nodes, lives
-- Needs: lifetime

local function exists(topic, me)
  if redis.call('HEXISTS', P .. 'leases:' .. me, topic) == 1 then return true end
  if redis.call('SISMEMBER', P .. 'explicit', topic) == 1 then return true end
  for _, node in ipairs(redis.call('ZRANGE', P .. 'nodes', 0, -1)) do
    if redis.call('HEXISTS', P .. 'leases:' .. node, topic) == 1 then return true end
  end
  return lives(topic)
end
