-- Stands behind lib.lua, write.lua and items.lua, of a user's stream behind inbox.lua, in the scripts that write items.

-- An item is known as written by its place in the index. The ids of others, of messages and of items that left, are in DEDUPE.
local REMEMBERED -- this call gave it some

-- Has an id known that never had a place: its score lies between two. It leaves with those of its time.
local function bar(id, s)
  REMEMBERED = true
  return call('ZADD', DEDUPE, 'NX', int(s) .. '.5', id)
end

-- The place of a known id, '0' where it never had one.
local function place_of(score) return string.find(score, '.', 1, true) and '0' or int(score) end

-- What items had of terms goes with them; their collapse keys are known as long as their ids.
local function drop_terms(ids)
  local members, fields, aliases, chains = {}, {}, {}, {}
  for i, head in ipairs(call('HMGET', ITEMS, unpack(ids))) do
    local id, key = ids[i], collapse_of(head)
    members[2 * i - 1], members[2 * i], fields[i] = 'x\0' .. id, 'w\0' .. id, id .. '\0w'
    if key then
      if not chains[key] then
        local _, _, _, _, chain = last_of(key)
        chains[key] = chain or id
      end
      aliases[#aliases + 1], aliases[#aliases + 2] = 'l\0' .. id, chains[key] .. ' ' .. key
    end
  end
  call('ZREM', DEADLINES, unpack(members))
  call('HDEL', ITEMS, unpack(fields))
  if #aliases > 0 then call('HSET', COLLAPSE, unpack(aliases)) end
end

-- Takes items away, at most 500, ids and offsets in turns.
local function drop(scored)
  local ids, fields, known = {}, {}, {}
  for i = 1, #scored / 2 do
    local id = scored[2 * i - 1]
    ids[i], fields[3 * i - 2], fields[3 * i - 1], fields[3 * i], known[2 * i - 1], known[2 * i] = id, id, body_of(id), id .. '\0u', scored[2 * i], id
  end
  if unmark then unmark(ids) end
  if TERMS then drop_terms(ids) end
  call('HDEL', ITEMS, unpack(fields))
  call('ZREM', INDEX, unpack(ids))
  call('ZADD', DEDUPE, unpack(known))
  REMEMBERED = true
end

-- Takes away what has expired, each item with its event, which say the counts behind the last: 50 at most, 250 where so much is due that who was away is reset anyway.
-- What is left of them is hidden. Answers the top.
local function expire(e, s, now, events, publish, channel)
  if not TERMS then return s end
  local ids, gone, nothing = {}, {}, {}
  hidden = expired(now)
  local most = #hidden > 500 and 250 or 50
  for i = 1, math.min(most, #hidden) do
    local id = hidden[i]
    local off = call('ZSCORE', INDEX, id)
    if off then
      ids[#ids + 1], gone[#gone + 1], gone[#gone + 2] = id, id, off
    else
      nothing[#nothing + 1] = 'x\0' .. id
    end
  end
  if #nothing > 0 then call('ZREM', DEADLINES, unpack(nothing)) end
  if #gone > 0 then drop(gone) end
  local rest = {}
  for i = most + 1, #hidden do rest[#rest + 1] = hidden[i] end
  hidden = rest
  for i, id in ipairs(ids) do call('XADD', EVENTS, 'MAXLEN', '=', events, int(s + i) .. '-0', 'k', 'x', 'i', id, 'd', '') end
  if #ids == 0 then return s end
  call('HSET', META, 's', int(s + #ids))
  local unread, unseen, by = badge()
  for i, id in ipairs(ids) do call(publish, channel, envelope(e, int(s + i), int(s + #ids), unread, unseen, by, 'x', id, '')) end
  return s + #ids
end

-- Lets ids go as many.lua does, with the rights of who only marks, and what is known of collapse keys by them.
local function forget_ids(kept)
  local over = call('ZCARD', DEDUPE) - kept
  if over <= 63 then return end
  for i = 1, over, 500 do
    local ids, fields, gone = call('ZRANGEBYSCORE', DEDUPE, '-inf', '+inf', 'LIMIT', '0', int(math.min(500, over - i + 1))), {}, {}
    call('ZREM', DEDUPE, unpack(ids))
    if TERMS then
      for n, id in ipairs(ids) do fields[n] = 'l\0' .. id end
      for n, alias in ipairs(call('HMGET', COLLAPSE, unpack(fields))) do
        local _, key = chain_of(alias or '')
        if key then
          gone[#gone + 1] = fields[n]
          if last_of(key) == ids[n] then gone[#gone + 1] = 'k\0' .. key end
        end
      end
      if #gone > 0 then call('HDEL', COLLAPSE, unpack(gone)) end
    end
  end
end

-- Items leave when they are older than the stream's keys live, too. That is looked at when those are renewed: they go up to a quarter later.
local function outdated(l, now, ttl)
  if l and l >= now + ttl then return end
  local oldest, gone = call('ZRANGEBYSCORE', INDEX, '-inf', '+inf', 'WITHSCORES', 'LIMIT', '0', '250'), {}
  for i = 1, #oldest, 2 do
    local since = string.match(call('HGET', ITEMS, oldest[i]) or '', '^t(%d+)')
    if not since or tonumber(since) >= now - ttl then break end
    gone[i], gone[i + 1] = oldest[i], oldest[i + 1]
  end
  if #gone > 0 then drop(gone) end
end

-- A stream says that it has terms when it gets the first, and not any more when nothing is left of them.
local function with_terms()
  if not TERMS then call('HSET', META, 'o', '1') end
  TERMS = '1'
end

local function without_terms()
  if TERMS and call('EXISTS', DEADLINES) == 0 and call('EXISTS', COLLAPSE) == 0 and not call('HGET', META, 'f') then
    call('HDEL', META, 'o')
    TERMS = nil
  end
end

-- All keys of an inbox live as long as its meta: a set that became empty is deleted and comes back without a lifetime, and a part that outlived the
-- rest would count ghosts. fresh are those that this call may have made. The meta knows until when all live at least: what was renewed by others lives longer.
-- many is how many keys there are: 9, or 11 with those of terms.
local function live_together(l, now, ttl, fresh, many)
  local due = not l or l < now + ttl
  if not due and REMEMBERED and call('PTTL', DEDUPE) == -1 then fresh[#fresh + 1] = DEDUPE end
  if not due and #fresh == 0 then return end
  local left = call('PTTL', META)
  if left < ttl then
    left = ttl + ttl / 4
    for i = 1, many do call('PEXPIRE', KEYS[BASE + i], int(left)) end
  elseif due then
    for i = 2, many do
      if call('PTTL', KEYS[BASE + i]) == -1 then call('PEXPIRE', KEYS[BASE + i], int(left)) end
    end
  else
    for _, key in ipairs(fresh) do call('PEXPIRE', key, int(left)) end
  end
  if due then call('HSET', META, 'l', int(now + left)) end
end
