-- Whether the registry of topics may be incomplete: other nodes may hold topics on which they
-- have no lease yet. It may be so just after a connect, and after a FLUSHALL.
--
-- in_doubt(me, force)     Return true if the caller says so (force = '1'), or if the leases of
--                         node `me` are gone. A publish to an unknown topic is then not refused.
-- has_subscriber(topic)   Return true if any connection is subscribed to the topic's channel.
--
-- Keys: leases:NODE; channel topic:TOPIC

local function in_doubt(me, force)
  return force == '1' or redis.call('EXISTS', P .. 'leases:' .. me) == 0
end
local function has_subscriber(topic)
  return redis.call('PUBSUB', 'NUMSUB', P .. 'topic:' .. topic)[2] > 0
end
