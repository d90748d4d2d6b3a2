-- lib. What is due in partitions? KEYS: their deadlines. It writes nothing.
-- Answers {now ms, of each key {members and their deadlines in turns, the oldest 64…}}.
local now = now_ms()
local out = { int(now) }
for i, key in ipairs(KEYS) do out[i + 1] = call('ZRANGEBYSCORE', key, '-inf', int(now), 'WITHSCORES', 'LIMIT', '0', '64') end
return out
