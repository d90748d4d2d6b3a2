-- Stands behind lib.lua and write.lua in the scripts that append: a call has messages of several streams, and what they share is paid for once. Where its data makes
-- one stream fail the others come about all the same.

-- What is answered: the history id, Redis' clock in us, and of each stream {epoch, code, offset, receivers, unread, the same four of the next message…}, or its error,
-- as text: clients may take what follows an error in a list for another reply. A code is 0 written, 1 a duplicate, 2 held; what is held has the offset it came with.
-- Of a user's stream it may be 3 past, 4 muted, 5 scheduled, or 9: the stream has terms, and nothing was written (notice.lua does).
local us = now_us()
local now = math.floor(us / 1000)
local replies = { history_id(), us }

-- The top that this call has given a stream, from its first entry on: what fails in the middle leaves those before.
local top

local function answer(stream, life)
  top = nil
  local done, got = pcall(stream)
  if not done then
    local text = type(got) == 'table' and got.err or (string.gsub(got, '^(.-:%d+): (.*)', '%2 (%1)'))
    if string.find(text, '^READONLY') then error(redis.error_reply(text)) end -- nothing of the call is written; clients leave the connection where it is the call's error
    if top then call('HSET', META, 's', int(top)) end
    if call('PTTL', META) == -1 then call('PEXPIRE', META, life) end -- it is new
    got = text
  end
  replies[#replies + 1] = got
end

-- Ids are let go in batches of 64: between the number that is kept and 63 more are remembered.
local function forget(kept)
  if call('ZCARD', DEDUPE) > kept + 63 then call('ZREMRANGEBYRANK', DEDUPE, 0, int(-kept - 1)) end
end
