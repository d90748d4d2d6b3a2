-- Stands behind lib.lua and items.lua in the scripts of a user's stream. Counts are sizes of sets: nothing that can drift.
local UNREAD, UNSEEN, ARCHIVED, CATEGORIES = KEYS[6], KEYS[7], KEYS[8], KEYS[9]

-- no index: no inbox; leftovers are deleted so that no ghost is counted
leftovers = function()
  local top = call('ZREVRANGE', INDEX, 0, 0, 'WITHSCORES')
  if #top > 0 then return tonumber(top[2]) end
  call('DEL', ITEMS, UNREAD, UNSEEN, ARCHIVED, CATEGORIES)
  return 0
end

state = function(k) UNREAD, UNSEEN, ARCHIVED, CATEGORIES = KEYS[k + 5], KEYS[k + 6], KEYS[k + 7], KEYS[k + 8] end

raise = function(id, off, category)
  call('ZADD', UNREAD, off, id)
  call('ZADD', UNSEEN, off, id)
  call('ZADD', CATEGORIES, '0', category .. '\0' .. id)
end

-- Only what is unread can be unseen, or in the counts; only what is not in them is archived.
unmark = function(ids)
  local members, active = {}, 0
  if call('ZREM', UNREAD, unpack(ids)) > 0 then
    call('ZREM', UNSEEN, unpack(ids))
    for i, head in ipairs(call('HMGET', ITEMS, unpack(ids))) do members[i] = category_of(head) .. '\0' .. ids[i] end
    active = call('ZREM', CATEGORIES, unpack(members))
  end
  if active < #ids then call('ZREM', ARCHIVED, unpack(ids)) end
end

-- how many of what is hidden each set counts: unread, unseen, and unread by category
local function hide()
  local unread, unseen, by = 0, 0, {}
  for i = 1, #hidden, 500 do
    local ids, members = { unpack(hidden, i, math.min(i + 499, #hidden)) }, {}
    for n, head in ipairs(call('HMGET', ITEMS, unpack(ids))) do members[n] = category_of(head) .. '\0' .. ids[n] end
    for _, at in ipairs(call('ZMSCORE', UNSEEN, unpack(ids))) do unseen = unseen + (at and 1 or 0) end
    for n, at in ipairs(call('ZMSCORE', CATEGORIES, unpack(members))) do
      if at then
        local c = string.sub(members[n], 1, -#ids[n] - 2)
        unread, by[c] = unread + 1, (by[c] or 0) + 1
      end
    end
  end
  return unread, unseen, by
end

-- Two commands a category, however many items; of those without a category, which come first, none. Who only reads says the time, and what the meta says of terms.
counts = function(now, terms)
  if now then
    TERMS = terms
    hidden = expired(now)
  end
  local unread, by, from = call('ZCARD', CATEGORIES), '', '[\1'
  local gone, gone_unseen, gone_by = hide()
  local left = unread
  while left > 0 do
    local first = call('ZRANGEBYLEX', CATEGORIES, from, '+', 'LIMIT', '0', '1')[1]
    if not first then break end
    local c = string.sub(first, 1, string.find(first, '\0', 1, true) - 1)
    from = '(' .. c .. '\1'
    local n = call('ZLEXCOUNT', CATEGORIES, '[' .. c .. '\0', from)
    left = left - n
    n = n - (gone_by[c] or 0)
    if n > 0 then by = by .. (by == '' and '' or ',') .. c .. '=' .. n end
  end
  return unread - gone, call('ZCARD', UNSEEN) - gone_unseen, by
end
