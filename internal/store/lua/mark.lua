-- lib, write, items, inbox, keep, fence, events, news. Changes the state of items. KEYS as notice.lua, of one user, and news.lua
-- ARGV 1 change, 2 'ids' | 'upto' | 'all', 3 epoch and 4 offset of upto, 5 body, 6 new epoch, 7 events kept, 8 retention ms,
--      9 PUBLISH or SPUBLISH, 10 change member, 11 epoch and 12 offset with which it was acknowledged before, '' and 0 for a new one,
--      13 epoch, 14 offset and 15 Redis' us of its first acknowledgement where it is made again,
--      16 program that makes a new one and 17 its number there, 18 ids kept, 19 offset at which it goes on, '' at its beginning, 20… ids
-- Answers {changed, offset, epoch, history id, now us, more, number of unknown ids, unknown ids…, ids that are as they shall be…, of ids where
-- it is another's that was named}; changed
-- -1: upto is of another epoch, -2: held, -3: late. Nothing changed: no event. At most 500 items change, and upto and all look at 1,000: where there may be more of
-- them, more is the offset at which the next call goes on, a mark of its own, up to the offset that all was answered, or upto's.
local us = now_us()
local now = math.floor(us / 1000)
local ids, unknown = {}, {}
for i = 20, #ARGV do ids[#ids + 1] = ARGV[i] end
local r, made_last = history_id(), call('HMGET', META, 'e', 'm')
if not made_last[1] then return { 0, '0', '', r, us, '', #ids, unpack(ids) } end
local change, again, from, more = ARGV[1], ARGV[11] ~= '', ARGV[19], ''
local e, s, l, terms = position(ARGV[6], now)
TERMS = terms
if again and held(ARGV[11], ARGV[12]) then return { -2, ARGV[12], ARGV[11], r, us, '', 0 } end

local function answer(n, off, epoch, at, meant)
  local out = { n, off, epoch, r, at, more, #unknown }
  for _, list in ipairs({ unknown, meant }) do
    for _, id in ipairs(list) do out[#out + 1] = id end
  end
  return out
end

-- the items that upto and all mean, with their offsets; above a position there was none yet when they were made
local function range(key, to, ...)
  if from ~= '' then return call('ZRANGEBYSCORE', key, from, to, ...) end
  return call('ZRANGEBYSCORE', key, '-inf', to, ...)
end

if not again then
  local n, epoch, off, at, next = made_before(made_last[2], ARGV[16], ARGV[17])
  if n == 'late' then return { -3, '0', e, r, us, '', 0 } end
  if n then
    local deleted, known = {}, {}
    if change == 'd' and n > 0 then -- its event names them
      for _, entry in ipairs(call('XREVRANGE', EVENTS, off .. '-0', off .. '-0')) do
        for id in string.gmatch(entry[2][4], '[^,]+') do deleted[#deleted + 1], known[id] = id, true end
      end
    end
    local them, aliased = {}, false
    for _, named in ipairs(ids) do
      local next_one = successor(named)
      local id = known[named] and named or known[next_one or ''] and next_one or current(named)
      local list = id and them or unknown
      list[#list + 1], aliased = id or named, aliased or id and id ~= named
    end
    local to = ARGV[2] == 'upto' and tonumber(off) > tonumber(ARGV[4]) and ARGV[4] or off
    if next ~= '' then to = '(' .. next end
    more = next
    return answer(n, off, epoch, at, ARGV[2] == 'ids' and (aliased and them or {}) or change == 'd' and deleted or range(INDEX, to))
  end
end
local to = s
if ARGV[2] == 'upto' then
  to = math.min(s, tonumber(ARGV[4]))
  if ARGV[3] ~= e then -- what began in another epoch goes on as far as that is here
    local base = from ~= '' and string.match(' ' .. tops(META), ' ' .. ARGV[3] .. ':(%d+)')
    if not base then return { -1, int(s), e, r, us, '', 0 } end
    to = math.min(to, tonumber(base))
  end
end
local first = s
s = expire(e, s, now, ARGV[7], ARGV[9], KEYS[14])

-- The set that says whether an item is as it shall be, and whether it shall be in there. What is deleted is in no set, and none is so yet.
local set = ({ s = UNSEEN, r = UNREAD, u = UNREAD, a = ARCHIVED, v = ARCHIVED })[change]
local within = change == 'u' or change == 'a'

-- Where the item's head keeps the position of the last change of this kind. Seen and deleted are for good: they need none.
local slot = ({ r = 1, u = 1, a = 2, v = 2 })[change]

-- the items that the call means, their offsets, their heads where those matter, and those among them that are not yet as they shall be
local meant, place, heads, some = {}, {}, {}, {}

local function read_heads(of)
  for i = 1, #of, 500 do
    local to = math.min(i + 499, #of)
    for n, head in ipairs(call('HMGET', ITEMS, unpack(of, i, to))) do heads[of[i + n - 1]] = head or '' end
  end
end

-- the head without that line, the positions in it, and what later builds have behind it
local function last(id)
  local head, read, archived, later = string.match(heads[id], '^([^\n]*\n[^\n]*\n[^\n]*\n[^\n]*)\n?(%S*) ?(%S*)(.*)$')
  return head, { read or '', archived or '' }, later
end

-- Remembers when items were changed: a mark that is made again changes nothing that was changed after it was acknowledged first, in whatever
-- order they come. One that changed nothing counts as well.
local function remember(did)
  local fields = {}
  local function write()
    if #fields > 0 then call('HSET', ITEMS, unpack(fields)) end
    fields = {}
  end
  for _, id in ipairs(meant) do
    local head, at, later = last(id)
    if head and (again or did[id] or string.sub(at[slot], 1, #e + 1) ~= e .. '.') then
      for i = 1, 2 do if at[i] == '' then at[i] = '-' end end
      at[slot] = again and table.concat({ ARGV[13], ARGV[14], ARGV[15] }, '.') or table.concat({ e, int(did[id] and s + 1 or s), int(us) }, '.')
      fields[#fields + 1], fields[#fields + 2] = id, head .. '\n' .. at[1] .. ' ' .. at[2] .. later
      if #fields == 500 then write() end
    end
  end
  write()
end

local function overtaken(id)
  if not again or not slot then return false end
  local _, at = last(id)
  local epoch, off, at_us = string.match(at[slot], '^(%w+)%.(%d+)%.(%d+)$')
  return later(e, epoch, off, at_us, ARGV[13], ARGV[14], ARGV[15])
end

-- The items, 500 at most, as the commands on sets take them.
local function scored(of)
  local out = {}
  for i, id in ipairs(of) do out[2 * i - 1], out[2 * i] = place[id], id end
  return out
end

local function uncount(of)
  local members = {}
  for i, id in ipairs(of) do members[i] = category_of(heads[id]) .. '\0' .. id end
  call('ZREM', CATEGORIES, unpack(members))
end

-- counts those again that are in a set, or in the other case those that are not
local function count(of, key, there)
  local members = {}
  for _, id in ipairs(of) do
    if (call('ZSCORE', key, id) ~= false) == there then members[#members + 1], members[#members + 2] = '0', category_of(heads[id]) .. '\0' .. id end
  end
  if #members > 0 then call('ZADD', CATEGORIES, unpack(members)) end
end

local apply = {
  s = function(of) call('ZREM', UNSEEN, unpack(of)) end,
  r = function(of)
    call('ZREM', UNREAD, unpack(of))
    call('ZREM', UNSEEN, unpack(of)) -- what is read was seen; what is unseen is unread
    uncount(of)
  end,
  u = function(of)
    call('ZADD', UNREAD, unpack(scored(of)))
    count(of, ARCHIVED, false)
  end,
  a = function(of)
    call('ZADD', ARCHIVED, unpack(scored(of)))
    call('ZREM', UNSEEN, unpack(of))
    uncount(of)
  end,
  v = function(of)
    call('ZREM', ARCHIVED, unpack(of))
    count(of, UNREAD, true)
  end,
  d = function(of)
    local gone = {}
    for i, id in ipairs(of) do gone[2 * i - 1], gone[2 * i] = id, place[id] end
    drop(gone)
  end,
}

local aliased, gone = false, {}
for _, id in ipairs(hidden) do gone[id] = true end
local seen = {} -- of marks that were overtaken: what is read or archived was seen, and that is for good
if ARGV[2] == 'ids' then
  local known = {}
  for _, named in ipairs(ids) do
    local id, off = named, call('ZSCORE', INDEX, named)
    if not off and not again then id, off = current(named) end -- what is made again means the item that it had hit
    aliased = aliased or id ~= named
    if not off and again and TERMS and call('HGET', COLLAPSE, 'l\0' .. named) then
      id = nil -- and something took its place, or it left
    elseif not off or gone[id] then
      unknown[#unknown + 1] = named
    elseif not place[id] then -- two names of one item are one
      known[#known + 1], place[id] = id, off
    end
  end
  if slot then read_heads(known) end
  for _, id in ipairs(known) do
    if not overtaken(id) then
      meant[#meant + 1] = id
      if not set or (call('ZSCORE', set, id) ~= false) ~= within then some[#some + 1] = id end
    elseif (change == 'r' or change == 'a') and call('ZSCORE', UNSEEN, id) then
      seen[#seen + 1] = id
    end
  end
else
  local found, there = range(INDEX, int(to), 'WITHSCORES', 'LIMIT', '0', '1000'), {}
  if set and #found > 0 then
    for _, id in ipairs(range(set, found[#found])) do there[id] = true end
  end
  for i = 1, #found, 2 do
    local id = found[i]
    local differs = not gone[id] and (not set or (there[id] or false) ~= within)
    if differs and #some == 500 then
      more = found[i + 1]
      break
    end
    if not gone[id] then meant[#meant + 1], place[id] = id, found[i + 1] end
    if differs then some[#some + 1] = id end
  end
  if more == '' and #found == 2000 then more = int(found[2000] + 1) end
  if slot then read_heads(meant) end
end

local function event(what, which)
  if #which == 0 then return end
  local news_seen, news_read = news_of(what, which)
  apply[what](which)
  s = s + 1
  local off, list = int(s), table.concat(which, ',')
  call('XADD', EVENTS, 'MAXLEN', '=', ARGV[7], off .. '-0', 'k', what, 'i', list, 'd', ARGV[5])
  call('HSET', META, 's', off)
  local unread, unseen, by = counts()
  call(ARGV[9], KEYS[14], envelope(e, off, off, unread, unseen, by, what, list, ARGV[5]))
  tell_news(ARGV[10], now, news_seen, news_read, ARGV[5])
end
if slot then
  local did = {}
  for _, id in ipairs(some) do did[id] = true end
  remember(did)
end
event(change, some)
event('s', seen)
if s > first then
  if REMEMBERED then forget_ids(ARGV[18]) end
  without_terms()
  live_together(l, now, tonumber(ARGV[8]), ({ u = { UNREAD, CATEGORIES }, a = { ARCHIVED }, v = { CATEGORIES } })[change] or {}, 11)
  changed(KEYS[12], KEYS[13], ARGV[10], now)
end
if not again then made(ARGV[16], ARGV[17], #some + #seen, e, s, us, more) end
return answer(#some + #seen, int(s), e, us, (ARGV[2] ~= 'ids' or aliased) and meant or {})
