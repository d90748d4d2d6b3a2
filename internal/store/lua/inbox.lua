-- Stands behind lib.lua in the scripts of a user's stream. Counts are sizes of sets: nothing that can drift.
local INDEX, ITEMS, UNREAD, UNSEEN, ARCHIVED, CATEGORIES = KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]

-- no index: no inbox; leftovers are deleted so that no ghost is counted
leftovers = function()
  local top = redis.call('ZREVRANGE', INDEX, 0, 0, 'WITHSCORES')
  if #top > 0 then return tonumber(top[2]) end
  redis.call('DEL', ITEMS, UNREAD, UNSEEN, ARCHIVED, CATEGORIES)
  return 0
end

-- An item is two fields: its id with the head, <flags>\n<category>\n<expires ms>\n<collapse key>, and behind a zero byte the body,
-- so that nobody reads a body who wants a category. The first mark adds a line to the head: <epoch>.<offset>.<Redis' us> of the last read or
-- unread, a space, and the same of the last archive or unarchive.
local function body_of(id) return id .. '\0' end

local function category_of(id)
  return string.match(redis.call('HGET', ITEMS, id) or '', '^[^\n]*\n([^\n]*)\n') or ''
end

local function member(id) return category_of(id) .. '\0' .. id end

-- unread, unseen and 'category=unread,…'. Two commands a category, however many items.
counts = function()
  local by, from = {}, '-'
  while true do
    local first = redis.call('ZRANGEBYLEX', CATEGORIES, from, '+', 'LIMIT', 0, 1)[1]
    if not first then break end
    local c = string.sub(first, 1, string.find(first, '\0', 1, true) - 1)
    from = '(' .. c .. '\1'
    if c ~= '' then
      by[#by + 1] = c .. '=' .. int(redis.call('ZLEXCOUNT', CATEGORIES, '[' .. c .. '\0', from))
    end
  end
  return redis.call('ZCARD', CATEGORIES), redis.call('ZCARD', UNSEEN), table.concat(by, ',')
end

local function drop(id)
  redis.call('ZREM', CATEGORIES, member(id))
  redis.call('HDEL', ITEMS, id, body_of(id))
  for _, key in ipairs({ INDEX, UNREAD, UNSEEN, ARCHIVED }) do redis.call('ZREM', key, id) end
end

-- All keys of an inbox live as long as its meta: a set that became empty is deleted and comes back without a lifetime, and a
-- part that outlived the rest would count ghosts.
local function live_together(ttl)
  local left = redis.call('PTTL', META)
  local renew = left < ttl
  if renew then left = ttl + ttl / 4 end
  for i = 1, 9 do
    if renew or redis.call('PTTL', KEYS[i]) == -1 then redis.call('PEXPIRE', KEYS[i], int(left)) end
  end
end
