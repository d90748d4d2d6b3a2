-- lib, write, many, items, inbox, keep. Appends notifications, and messages without an item, to users' streams that have no terms. KEYS, of each: its nine,
-- 10 change index, 11 its tick, 12 channel
-- ARGV 1 new epoch, 2 events kept, 3 ids kept, 4 retention ms, 5 PUBLISH or SPUBLISH, 6 items kept; of each user change member, number of messages, no more than
--      items are kept; of each message id, body, change, head of the item ('' for a message), category
-- Answers what many.lua says. What comes in one call counts together: each message says the counts, and up to where, behind the last.
local k, a = 1, 7

-- Is a message written already? If not it is known as such from now on. Answers its offset then, or nil and the key that knows it now.
local function known(id, off, head)
  local there, new = INDEX, DEDUPE
  if head ~= '' then there, new = DEDUPE, INDEX end
  local dup = call('ZSCORE', there, id)
  if not dup and call('ZADD', new, 'NX', off, id) == 0 then dup = call('ZSCORE', new, id) end
  return dup, new
end

-- The oldest make room for so many new items, which are in the index already. Where fewer are kept than before the rest leaves with the writes that come.
local function room(new, s)
  if s <= tonumber(ARGV[6]) then return end -- each item has an offset
  local over = call('ZCARD', INDEX) - ARGV[6]
  if over > 0 then drop(call('ZRANGE', INDEX, 0, math.min(new + 8, over) - 1, 'WITHSCORES')) end
end

local since = 't' .. int(now)

-- puts new items into the rest of the inbox
local function put(places)
  local items, scored, members = {}, {}, {}
  for n, p in ipairs(places) do
    local id = ARGV[p.m]
    items[4 * n - 3], items[4 * n - 2], items[4 * n - 1], items[4 * n] = id, since .. ARGV[p.m + 3], body_of(id), ARGV[p.m + 1]
    scored[2 * n - 1], scored[2 * n] = p.off, id
    members[2 * n - 1], members[2 * n] = '0', ARGV[p.m + 4] .. '\0' .. id
  end
  call('HSET', ITEMS, unpack(items))
  call('ZADD', UNREAD, unpack(scored))
  call('ZADD', UNSEEN, unpack(scored))
  call('ZADD', CATEGORIES, unpack(members))
end

local function user()
  local e, s, l, terms = position(ARGV[1], now)
  local first, got, all, new = s, { e }, {}, {}
  if terms then
    for j = 1, tonumber(ARGV[a + 1]) do
      for _, v in ipairs({ 9, '0', 0, 0 }) do got[#got + 1] = v end
    end
    return got
  end
  REMEMBERED = false
  for j = 1, tonumber(ARGV[a + 1]) do
    local m, at = a + 5 * j - 3, 4 * j - 2
    local id, head, off, code = ARGV[m], ARGV[m + 3], int(s + 1), 0
    local dup, key = known(id, off, head)
    if dup then
      off, code = place_of(dup), 1
    else
      local made = redis.pcall('XADD', EVENTS, 'MAXLEN', '=', ARGV[2], off .. '-0', 'k', ARGV[m + 2], 'i', id, 'd', ARGV[m + 1])
      if type(made) == 'table' then
        call('ZREM', key, id)
        error(made)
      end
      s = s + 1
      top = s
      REMEMBERED = REMEMBERED or key == DEDUPE
    end
    all[j] = { m = m, off = off, code = code }
    if code == 0 and head ~= '' then new[#new + 1] = all[j] end
    got[at], got[at + 1], got[at + 2], got[at + 3] = code, off, 0, 0
  end
  local fresh = {}
  if s > first then
    call('HSET', META, 's', int(s))
    if #new > 0 then
      room(#new, s)
      put(new)
      outdated(l, now, tonumber(ARGV[4]))
    end
    if REMEMBERED then forget(ARGV[3]) end
    changed(KEYS[k + 9], KEYS[k + 10], ARGV[a], now)
  end
  local unread, unseen, by = counts()
  if first == 0 then fresh = { EVENTS } end
  if #new > 0 and unseen == #new then fresh[#fresh + 1], fresh[#fresh + 2], fresh[#fresh + 3] = INDEX, ITEMS, UNSEEN end
  if #new > 0 and unread == #new then fresh[#fresh + 1], fresh[#fresh + 2] = UNREAD, CATEGORIES end
  if s > first or not l then live_together(l, now, tonumber(ARGV[4]), fresh, 9) end
  for j, p in ipairs(all) do
    if p.code == 0 then
      got[4 * j] = call(ARGV[5], KEYS[k + 11], envelope(e, p.off, int(s), unread, unseen, by, ARGV[p.m + 2], ARGV[p.m], ARGV[p.m + 1]))
    end
    got[4 * j + 1] = unread
  end
  return got
end

while KEYS[k] do
  turn_to(k)
  answer(user, ARGV[4])
  k, a = k + 12, a + 2 + 5 * tonumber(ARGV[a + 1])
end
return replies
