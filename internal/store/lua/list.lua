-- lib, items, inbox. One page of an inbox, newest first; limit 0 counts only. It writes nothing.
-- ARGV 1 status, 2 category or '', 3 limit, 4 below this offset ('+inf' for the first page), 5 bytes at most
-- Answers {epoch ('' where there is no inbox), top, now ms, unread, unseen, by, before ('' at the end), id, offset, seen, read, archived, head,
-- body, body of its last update or '', …}. It looks at no more than 1,000 items a call: the page may then be short, and before says where to go on.
local m, now, gone = call('HMGET', META, 'e', 's', 'o'), now_ms(), {}
if not m[1] then return { '', '0', int(now), 0, 0, '', '' } end
local limit, below, bytes, looked, found = tonumber(ARGV[3]), ARGV[4], 0, 0, 0
local unread, unseen, by = counts(now, m[3])
for _, id in ipairs(hidden) do gone[id] = true end
local out = { m[1], m[2], int(now), unread, unseen, by, '' }
local status = ARGV[1]
local from = ({ unread = UNREAD, unseen = UNSEEN, archived = ARCHIVED })[status] or INDEX
while limit > 0 do
  local ids = call('ZREVRANGEBYSCORE', from, '(' .. below, '-inf', 'WITHSCORES', 'LIMIT', 0, 64)
  for i = 1, #ids, 2 do
    local id, archived = ids[i], call('ZSCORE', ARCHIVED, ids[i])
    local wanted = not gone[id] and (status == 'all' or status == 'archived' or not archived)
    if wanted and (ARGV[2] == '' or category_of(call('HGET', ITEMS, id)) == ARGV[2]) then
      local head, body, update = unpack(call('HMGET', ITEMS, id, body_of(id), id .. '\0u'))
      bytes = bytes + #(body or '') + #(update or '')
      if found == limit or found > 0 and bytes > tonumber(ARGV[5]) then
        out[7] = below
        return out
      end
      if head and body then
        found = found + 1
        for _, v in ipairs({ id, int(ids[i + 1]), call('ZSCORE', UNSEEN, id) and 0 or 1,
          call('ZSCORE', UNREAD, id) and 0 or 1, archived and 1 or 0, head, body, update or '' }) do out[#out + 1] = v end
      end
    end
    below, looked = int(ids[i + 1]), looked + 1
  end
  if #ids < 128 then return out end
  if looked >= 1000 then
    out[7] = below
    return out
  end
end
return out
