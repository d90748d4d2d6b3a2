-- Stands behind lib.lua in the scripts of a user's stream. Counts are sizes of sets: nothing that can drift.
local BASE = 0 -- keys in front of the stream's
local INDEX, ITEMS, UNREAD, UNSEEN, ARCHIVED, CATEGORIES = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]

-- no index: no inbox; leftovers are deleted so that no ghost is counted
leftovers = function()
  local top = call('ZREVRANGE', INDEX, 0, 0, 'WITHSCORES')
  if #top > 0 then return tonumber(top[2]) end
  call('DEL', ITEMS, UNREAD, UNSEEN, ARCHIVED, CATEGORIES)
  return 0
end

-- An item is two fields: its id with the head, <flags>\n<category>\n<expires ms>\n<collapse key>, and behind a zero byte the body,
-- so that nobody reads a body who wants a category. The first mark adds a line to the head: <epoch>.<offset>.<Redis' us> of the last read or
-- unread, a space, and the same of the last archive or unarchive.
local function body_of(id) return id .. '\0' end

local function category_of(head) return string.match(head or '', '^[^\n]*\n([^\n]*)\n') or '' end

-- Two commands a category, however many items; of those without a category, which come first, none.
counts = function()
  local unread, by, from = call('ZCARD', CATEGORIES), '', '[\1'
  local left = unread
  while left > 0 do
    local first = call('ZRANGEBYLEX', CATEGORIES, from, '+', 'LIMIT', '0', '1')[1]
    if not first then break end
    local c = string.sub(first, 1, string.find(first, '\0', 1, true) - 1)
    from = '(' .. c .. '\1'
    local n = call('ZLEXCOUNT', CATEGORIES, '[' .. c .. '\0', from)
    by, left = by .. (by == '' and '' or ',') .. c .. '=' .. n, left - n
  end
  return unread, call('ZCARD', UNSEEN), by
end
