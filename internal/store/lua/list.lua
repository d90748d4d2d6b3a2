-- lib, inbox. One page of an inbox, newest first; limit 0 counts only. It writes nothing.
-- ARGV 1 status, 2 category or '', 3 limit, 4 below this offset ('+inf' for the first page), 5 bytes at most
-- Answers {epoch ('' where there is no inbox), top, now ms, unread, unseen, by, more, id, offset, seen, read, archived, item, …}.
local m = redis.call('HMGET', META, 'e', 's')
if not m[1] then return { '', '0', int(now_ms()), 0, 0, '', 0 } end
local limit, below, bytes, more, found = tonumber(ARGV[3]), ARGV[4], 0, 0, 0
local unread, unseen, by = counts()
local out = { m[1], m[2], int(now_ms()), unread, unseen, by, 0 }
local status = ARGV[1]
local from = ({ unread = UNREAD, unseen = UNSEEN, archived = ARCHIVED })[status] or INDEX
while limit > 0 and more == 0 do
  local ids = redis.call('ZREVRANGEBYSCORE', from, '(' .. below, '-inf', 'WITHSCORES', 'LIMIT', 0, 64)
  for i = 1, #ids, 2 do
    local id, archived = ids[i], redis.call('ZSCORE', ARCHIVED, ids[i])
    local item = redis.call('HGET', ITEMS, id)
    if item and (status == 'all' or status == 'archived' or not archived)
        and (ARGV[2] == '' or string.match(item, '^[^\n]*\n([^\n]*)\n') == ARGV[2]) then
      bytes = bytes + #item
      if found == limit or found > 0 and bytes > tonumber(ARGV[5]) then more = 1 break end
      found = found + 1
      for _, v in ipairs({ id, int(ids[i + 1]), redis.call('ZSCORE', UNSEEN, id) and 0 or 1,
        redis.call('ZSCORE', UNREAD, id) and 0 or 1, archived and 1 or 0, item }) do out[#out + 1] = v end
    end
    below = int(ids[i + 1])
  end
  if #ids < 128 then break end
end
out[7] = more
return out
