-- lib. What do these streams stand at? KEYS: their metas, all of one partition. It writes nothing.
-- Answers {history id, tops of each, an error in the place of one that cannot be read …}.
local out = { history_id() }
for i, key in ipairs(KEYS) do
  local read, got = pcall(tops, key)
  out[i + 1] = read and got or redis.error_reply('ERR what a stream stands at cannot be read')
end
return out
