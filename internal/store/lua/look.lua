-- lib. What do these streams stand at? KEYS: their metas, all of one partition. It writes nothing.
-- Answers {history id, epoch, top, base list of each …}; '' where there is none.
local out = { history_id() }
for _, key in ipairs(KEYS) do
  local m = redis.call('HMGET', key, 'e', 's', 'p')
  for i = 1, 3 do out[#out + 1] = m[i] or '' end
end
return out
