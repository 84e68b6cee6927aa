-- Delete a topic: its registration, its history, and the leases of all nodes. Publish the deletion.
--
-- Keys:  explicit, nodes, leases:NODE, lives, history:TOPIC, events:TOPIC
-- ARGV:  1 topic
--        2 node
--        3 envelope of the deletion
--        4 force: 1 if other nodes may hold the topic without a lease
-- Reply: 1; 0 if the topic does not exist; -1 if the registry may be incomplete and so cannot tell

local topic, me = ARGV[1], ARGV[2]
if not exists(topic, me) then
  if not in_doubt(me, ARGV[4]) then return 0 end
  if not has_subscriber(topic) then return -1 end
end
redis.call('SREM', P .. 'explicit', topic)
forget(topic)
for _, node in ipairs(redis.call('ZRANGE', P .. 'nodes', 0, -1)) do
  redis.call('HDEL', P .. 'leases:' .. node, topic)
end
redis.call('PUBLISH', P .. 'topic:' .. topic, ARGV[3])
return 1
