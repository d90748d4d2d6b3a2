-- lib, items. Says what became of a claim. KEYS as notice.lua, of one stream
-- ARGV 1 change member, 2 id, 3 claimer, 4 '' where it is over, or in how many ms the next attempt is, 5 attempts that ended, 6 subscriptions that are done
-- Answers 1, or 0 where the claim is not his any more.
local held = call('HGET', ITEMS, ARGV[2] .. '\0w')
local how, claimer, since = string.match(held or '', '^(%u%u) %d+ (%S+) (%d+)')
if claimer ~= ARGV[3] then return 0 end
if ARGV[4] == '' then
  call('ZREM', DEADLINES, 'w\0' .. ARGV[2])
  call('HDEL', ITEMS, ARGV[2] .. '\0w')
else
  call('ZADD', DEADLINES, int(now_ms() + tonumber(ARGV[4])), 'w\0' .. ARGV[2])
  call('HSET', ITEMS, ARGV[2] .. '\0w', table.concat({ how, ARGV[5], '-', since, ARGV[6] }, ' '))
end
-- The partition waited for the end of the lease, which nobody is late for.
local next = call('ZRANGEBYSCORE', DEADLINES, '-inf', '+inf', 'WITHSCORES', 'LIMIT', '0', '1')[2]
if next then call('ZADD', KEYS[15], next, ARGV[1]) else call('ZREM', KEYS[15], ARGV[1]) end
return 1
