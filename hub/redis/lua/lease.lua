-- Write a node's leases on topics.
--
-- Keys:  leases:NODE, nodes
-- ARGV:  1 node
--        2 begin: 1 for the first lease of a connection
--        3... pairs of topic and number of subscribers
-- Reply: 1; 0 if the node's leases are gone. Nothing is written then: these leases alone would
--        hide from the next beat that the others are missing.

local key = P .. 'leases:' .. ARGV[1]
if ARGV[2] == '1' then
  redis.call('HSETNX', key, '', 0)
elseif redis.call('EXISTS', key) == 0 then
  return 0
end
if #ARGV > 2 then redis.call('HSET', key, unpack(ARGV, 3)) end
return hold(ARGV[1])
