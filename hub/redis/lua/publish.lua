-- Publish an event to a topic without a history.
--
-- Keys:  explicit, nodes, leases:NODE, lives; once:DIGEST and keys:NODE with an idempotency key
-- ARGV:  1 topic
--        2 node
--        3 envelope
--        4 force: 1 to publish to a topic that no node has registered
--        5 idempotency key (optional)
--        6 what to remember for that key (with 5)
-- Reply: the number of nodes that received it; -1 if the topic does not exist;
--        the remembered answer, a string, if the key was used before

local topic, me = ARGV[1], ARGV[2]
local once = once_key(topic, ARGV[5])
local first = once and redis.call('GET', once)
if first then return first end
if not exists(topic, me) and not in_doubt(me, ARGV[4]) then return -1 end
local nodes = redis.call('PUBLISH', P .. 'topic:' .. topic, ARGV[3])
if once then remember(once, me, nodes .. ' - 0 ' .. ARGV[6]) end
return nodes
