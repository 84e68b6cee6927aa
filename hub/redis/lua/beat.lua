-- Renew a node's leases, write its counts, sweep histories, and publish the beat to the node.
--
-- Keys:  leases:NODE, nodes, lives, history:TOPIC, events:TOPIC, explicit; channel node:NODE
-- ARGV:  1 node
--        2 number of the beat
--        3 number of the node's clients
--        4... pairs of topic and number of subscribers, of the topics whose number changed. The
--        lease of a topic that was deleted meanwhile is not written again.
-- Reply: 1; 0 if the node's leases are gone

local key = P .. 'leases:' .. ARGV[1]
local kept = redis.call('EXISTS', key)
if kept == 1 then
  redis.call('HSET', key, '', ARGV[3])
  for i = 4, #ARGV, 2 do
    if redis.call('HEXISTS', key, ARGV[i]) == 1 then
      redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    end
  end
  hold(ARGV[1])
end
sweep(ARGV[1])
redis.call('PUBLISH', P .. 'node:' .. ARGV[1], ARGV[2])
return kept
