-- lib. Appends a message to an event topic. KEYS 4 change index, 5 its tick, 6 channel
-- ARGV 1 id, 2 body, 3 new epoch, 4 messages kept, 5 ids kept, 6 entries' ttl ms, 7 meta's life ms, 8 PUBLISH or SPUBLISH, 9 change member,
--      10 epoch and 11 offset with which it was acknowledged before, '' and 0 for a new one
-- Answers {0 written | 1 a duplicate | 2 held, offset, epoch, history id, receivers}.
local now = now_ms()
local e, s, r = position(ARGV[3], now)
if held(ARGV[10], ARGV[11]) then return { 2, ARGV[11], ARGV[10], r, 0 } end
local dup = redis.call('ZSCORE', DEDUPE, ARGV[1])
if dup then return { 1, int(dup), e, r, 0 } end
local off = int(s + 1)
redis.call('XADD', EVENTS, 'MAXLEN', '=', ARGV[4], off .. '-0', 'k', 'm', 'i', ARGV[1], 'd', ARGV[2])
redis.call('HSET', META, 's', off)
redis.call('ZADD', DEDUPE, off, ARGV[1])
redis.call('ZREMRANGEBYRANK', DEDUPE, 0, -(tonumber(ARGV[5]) + 1))
local ttl = tonumber(ARGV[6])
for _, key in ipairs({ EVENTS, DEDUPE }) do
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, int(2 * ttl)) end
end
live(META, tonumber(ARGV[7]))
changed(KEYS[4], KEYS[5], ARGV[9], now)
return { 0, off, e, r, redis.call(ARGV[8], KEYS[6], envelope(e, off, '0', '0', '', 'm', ARGV[1], ARGV[2])) }
