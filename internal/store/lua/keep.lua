-- Stands behind lib.lua, write.lua and inbox.lua in the scripts that write a user's stream.

-- An item is known as written by its place in the index. The ids of others, of messages and of items that left, are in DEDUPE.
local REMEMBERED -- this call gave it some

-- Takes items away, at most 500, ids and offsets in turns. Only what is unread can be unseen, or in the counts; only what is not in them is archived.
local function drop(scored)
  local ids, fields, known, active = {}, {}, {}, 0
  for i = 1, #scored / 2 do
    local id = scored[2 * i - 1]
    ids[i], fields[2 * i - 1], fields[2 * i], known[2 * i - 1], known[2 * i] = id, id, body_of(id), scored[2 * i], id
  end
  if call('ZREM', UNREAD, unpack(ids)) > 0 then
    call('ZREM', UNSEEN, unpack(ids))
    local members = call('HMGET', ITEMS, unpack(ids))
    for i, id in ipairs(ids) do members[i] = category_of(members[i]) .. '\0' .. id end
    active = call('ZREM', CATEGORIES, unpack(members))
  end
  if active < #ids then call('ZREM', ARCHIVED, unpack(ids)) end
  call('HDEL', ITEMS, unpack(fields))
  call('ZREM', INDEX, unpack(ids))
  call('ZADD', DEDUPE, unpack(known))
  REMEMBERED = true
end

-- All keys of an inbox live as long as its meta: a set that became empty is deleted and comes back without a lifetime, and a part that outlived the
-- rest would count ghosts. fresh are those that this call may have made. The meta knows until when all live at least: what was renewed by others lives longer.
local function live_together(l, now, ttl, fresh)
  local due = not l or l < now + ttl
  if not due and REMEMBERED and call('PTTL', DEDUPE) == -1 then fresh[#fresh + 1] = DEDUPE end
  if not due and #fresh == 0 then return end
  local left = call('PTTL', META)
  if left < ttl then
    left = ttl + ttl / 4
    for i = 1, 9 do call('PEXPIRE', KEYS[BASE + i], int(left)) end
  elseif due then
    for i = 2, 9 do
      if call('PTTL', KEYS[BASE + i]) == -1 then call('PEXPIRE', KEYS[BASE + i], int(left)) end
    end
  else
    for _, key in ipairs(fresh) do call('PEXPIRE', key, int(left)) end
  end
  if due then call('HSET', META, 'l', int(now + left)) end
end
