-- Keep bans, and publish them to all nodes. A longer ban of a subject stays.
--
-- Keys:  bans; channel control
-- ARGV:  1 envelope of the control message
--        2... pairs of subject and end of the ban (s)
-- Reply: 1

local bans = P .. 'bans'
redis.call('ZREMRANGEBYSCORE', bans, '-inf', redis.call('TIME')[1])
for i = 2, #ARGV, 2 do
  local kept = redis.call('ZSCORE', bans, ARGV[i])
  if not kept or tonumber(kept) < tonumber(ARGV[i + 1]) then
    redis.call('ZADD', bans, ARGV[i + 1], ARGV[i])
  end
end
redis.call('PUBLISH', P .. 'control', ARGV[1])
return 1
