-- Stands behind lib.lua and write.lua in the scripts that append: a call has messages of several streams, and what they share is paid for once. Where its data makes
-- one stream fail the others come about all the same.

-- What is answered: the history id, and of each stream an error or {epoch, code, offset, receivers, unread, the same four of the next message…}. A code is 0 written,
-- 1 a duplicate, 2 held; what is held has the offset it came with.
local replies = { history_id() }

local function answer(stream, life)
  local done, got = pcall(stream)
  if not done then
    if call('PTTL', META) == -1 then call('PEXPIRE', META, life) end -- it is new
    got = redis.error_reply(type(got) == 'table' and got.err or (string.gsub(got, '^.-:%d+: ', '')))
  end
  replies[#replies + 1] = got
end

-- Ids are let go in batches of 64: between the number that is kept and 63 more are remembered.
local function forget(first, s, kept)
  if s - s % 64 > first then call('ZREMRANGEBYRANK', DEDUPE, 0, -(kept + 1)) end
end
