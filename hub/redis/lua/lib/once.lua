-- Idempotency keys.
--
-- once_key(topic, key)         Return the Redis key for an idempotency key; nil without a key.
-- remember(once, me, answer)   Keep the answer to a publish for REMEMBERED seconds, under the Redis
--                              key `once`, and delete the oldest answer of node `me` beyond LIMIT.
--
-- Keys: once:DIGEST, keys:NODE
-- Needs: lifetime

local function once_key(topic, key)
  return key and P .. 'once:' .. redis.sha1hex(#topic .. ':' .. topic .. key)
end
local function remember(once, me, answer)
  redis.call('SET', once, answer, 'EX', REMEMBERED)
  local known, now = P .. 'keys:' .. me, now_ms()
  if redis.call('RPUSH', known, now .. ' ' .. once) > LIMIT then
    local stored, oldest = string.match(redis.call('LPOP', known), '^(%d+) (.*)$')
    -- A key that expired may have been used again since: do not delete its new answer.
    if now - stored < REMEMBERED * 1000 then redis.call('DEL', oldest) end
  end
  redis.call('EXPIRE', known, REMEMBERED)
end
