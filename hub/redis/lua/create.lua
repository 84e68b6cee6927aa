-- Create a topic explicitly.
--
-- Keys:  explicit, nodes, leases:NODE, lives
-- ARGV:  1 topic
--        2 node
--        3 force: 1 if other nodes may hold the topic without a lease
-- Reply: 1; 0 if the topic exists

local topic, me = ARGV[1], ARGV[2]
if exists(topic, me) or (in_doubt(me, ARGV[3]) and has_subscriber(topic)) then return 0 end
return redis.call('SADD', P .. 'explicit', topic)
