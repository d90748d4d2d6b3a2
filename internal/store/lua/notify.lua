-- lib, inbox. Appends a notification, or a message without an item, to a user's stream. KEYS 10 change index, 11 its tick, 12 channel
-- ARGV 1 id, 2 body, 3 new epoch, 4 events kept, 5 ids kept, 6 retention ms, 7 PUBLISH or SPUBLISH, 8 change member, 9 change,
--      10 head of the item ('' for a message), 11 category, 12 items kept,
--      13 epoch and 14 offset with which it was acknowledged before, '' and 0 for a new one
-- Answers {0 written | 1 a duplicate | 2 held, offset, epoch, history id, receivers, unread}.
local now, id = now_ms(), ARGV[1]
local e, s, r = position(ARGV[3], now)
if held(ARGV[13], ARGV[14]) then return { 2, ARGV[14], ARGV[13], r, 0, 0 } end
local dup = redis.call('ZSCORE', DEDUPE, id) or redis.call('ZSCORE', INDEX, id)
if dup then return { 1, int(dup), e, r, 0, redis.call('ZCARD', CATEGORIES) } end
local off = int(s + 1)
redis.call('XADD', EVENTS, 'MAXLEN', '=', ARGV[4], off .. '-0', 'k', ARGV[9], 'i', id, 'd', ARGV[2])
redis.call('HSET', META, 's', off)
redis.call('ZADD', DEDUPE, off, id)
redis.call('ZREMRANGEBYRANK', DEDUPE, 0, -(tonumber(ARGV[5]) + 1))
if ARGV[10] ~= '' then
  redis.call('HSET', ITEMS, id, ARGV[10], body_of(id), ARGV[2])
  for _, key in ipairs({ INDEX, UNREAD, UNSEEN }) do redis.call('ZADD', key, off, id) end
  redis.call('ZADD', CATEGORIES, 0, ARGV[11] .. '\0' .. id)
  local over = math.min(500, redis.call('ZCARD', INDEX) - tonumber(ARGV[12]))
  if over > 0 then
    for _, old in ipairs(redis.call('ZRANGE', INDEX, 0, over - 1)) do drop(old) end
  end
end
live_together(tonumber(ARGV[6]))
changed(KEYS[10], KEYS[11], ARGV[8], now)
local unread, unseen, by = counts()
local n = redis.call(ARGV[7], KEYS[12], envelope(e, off, unread, unseen, by, ARGV[9], id, ARGV[2]))
return { 0, off, e, r, n, unread }
