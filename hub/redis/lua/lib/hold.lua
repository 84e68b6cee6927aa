-- hold(node)   Renew a node's leases for LEASE seconds, and forget the nodes whose leases have
--              expired. Return 1.
--
-- Keys: leases:NODE, nodes

local function hold(node)
  local now = tonumber(redis.call('TIME')[1])
  redis.call('EXPIRE', P .. 'leases:' .. node, LEASE)
  redis.call('ZADD', P .. 'nodes', now + LEASE, node)
  redis.call('ZREMRANGEBYSCORE', P .. 'nodes', '-inf', '(' .. now)
  return 1
end
