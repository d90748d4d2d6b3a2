-- lib, items. Says what became of a claim. KEYS as notice.lua, of one stream
-- ARGV 1 change member, 2 id, 3 who claimed, 4 attempt, 5 '' where it is over, or in how many ms the next attempt is, 6 attempts so far, 7 subscriptions that are done
-- Answers 1, or 0 where the claim is not his any more.
local held = call('HGET', ITEMS, ARGV[2] .. '\0w')
local how, attempt, claimer, since = string.match(held or '', '^(%u%u) (%d+) (%S+) (%d+)')
if attempt ~= ARGV[4] or claimer ~= ARGV[3] then return 0 end
if ARGV[5] == '' then
  call('ZREM', DEADLINES, 'w\0' .. ARGV[2])
  call('HDEL', ITEMS, ARGV[2] .. '\0w')
  return 1
end
local next = int(now_ms() + tonumber(ARGV[5]))
call('ZADD', DEADLINES, next, 'w\0' .. ARGV[2])
call('ZADD', KEYS[15], 'LT', next, ARGV[1])
call('HSET', ITEMS, ARGV[2] .. '\0w', table.concat({ how, ARGV[6], '-', since, ARGV[7] }, ' '))
return 1
