-- lib, write, inbox, keep. Changes the state of items. KEYS as notify.lua, of one user
-- ARGV 1 change, 2 'ids' | 'upto' | 'all', 3 epoch and 4 offset of upto, 5 body, 6 new epoch, 7 events kept, 8 retention ms,
--      9 PUBLISH or SPUBLISH, 10 change member, 11 epoch and 12 offset with which it was acknowledged before, '' and 0 for a new one,
--      13 epoch, 14 offset and 15 Redis' us of its first acknowledgement where it is made again,
--      16 program that makes a new one and 17 its number there, 18 ids kept, 19… ids
-- Answers {changed, offset, epoch, history id, now us, number of unknown ids, unknown ids…, ids of upto and all that are as they shall be…}; changed
-- -1: upto is of another epoch, -2: held, -3: late. Nothing changed: no event.
local us = now_us()
local now = math.floor(us / 1000)
local ids, unknown = {}, {}
for i = 19, #ARGV do ids[#ids + 1] = ARGV[i] end
local r, made = history_id(), call('HMGET', META, 'e', 'm')
if not made[1] then return { 0, '0', '', r, us, #ids, unpack(ids) } end
local change, again = ARGV[1], ARGV[11] ~= ''
local e, s, l = position(ARGV[6], now)
if again and held(ARGV[11], ARGV[12]) then return { -2, ARGV[12], ARGV[11], r, us, 0 } end

local function answer(n, off, epoch, at, meant)
  local out = { n, off, epoch, r, at, #unknown }
  for _, list in ipairs({ unknown, ARGV[2] ~= 'ids' and meant or {} }) do
    for _, id in ipairs(list) do out[#out + 1] = id end
  end
  return out
end

-- the items that upto and all mean; above a position there was none yet when they were made
local function range(key, most)
  if ARGV[2] == 'upto' then most = math.min(most, tonumber(ARGV[4])) end
  return call('ZRANGEBYSCORE', key, '-inf', int(most))
end

-- The meta keeps the last mark of each of the eight programs that marked here last: '<program>:<number>:<changed>:<epoch>:<offset>:<us> …'. A program
-- makes one mark of a stream after the other and counts them. So one with the number that is kept was made, by an attempt whose answer nobody heard, or
-- comes once more: it is answered again. One with a smaller number comes when its program has gone on: nothing is done.
local programs = {}
if not again then
  local last
  for one in string.gmatch(made[2] or '', '%S+') do
    if string.match(one, '^[^:]+') == ARGV[16] then last = one elseif #programs < 7 then programs[#programs + 1] = one end
  end
  local number, n, epoch, off, at = string.match(last or '', ':(%d+):(%d+):(%w+):(%d+):(%d+)$')
  if number and tonumber(number) > tonumber(ARGV[17]) then return { -3, '0', e, r, us, 0 } end
  if number == ARGV[17] then
    local deleted, known = {}, {}
    if change == 'd' and n ~= '0' then -- its events name them, 500 each
      for _, entry in ipairs(call('XREVRANGE', EVENTS, off .. '-0', int(off - math.ceil(n / 500) + 1) .. '-0')) do
        for id in string.gmatch(entry[2][4], '[^,]+') do deleted[#deleted + 1], known[id] = id, true end
      end
    end
    for _, id in ipairs(ids) do
      if not known[id] and not call('ZSCORE', INDEX, id) then unknown[#unknown + 1] = id end
    end
    return answer(tonumber(n), off, epoch, tonumber(at), change == 'd' and deleted or range(INDEX, tonumber(off)))
  end
end

-- Where the item's head keeps the position of the last change of this kind. Seen and deleted are for good: they need none.
local slot = ({ r = 1, u = 1, a = 2, v = 2 })[change]

-- the heads of the items as this call has left them
local heads = {}

local function head_of(id)
  if not heads[id] then heads[id] = call('HGET', ITEMS, id) or '' end
  return heads[id]
end

local function member(id) return category_of(head_of(id)) .. '\0' .. id end

-- the head without that line, the positions in it, and what later builds have behind it
local function last(id)
  local head, read, archived, more = string.match(head_of(id), '^([^\n]*\n[^\n]*\n[^\n]*\n[^\n]*)\n?(%S*) ?(%S*)(.*)$')
  return head, { read or '', archived or '' }, more
end

-- Remembers when the item was changed: a mark that is made again changes nothing that was changed after it was acknowledged first, in whatever
-- order they come. One that changed nothing counts as well.
local function remember(id, off)
  if not slot then return end
  local head, at, more = last(id)
  if not head or not again and off == s and string.sub(at[slot], 1, #e + 1) == e .. '.' then return end
  for i = 1, 2 do if at[i] == '' then at[i] = '-' end end
  at[slot] = again and table.concat({ ARGV[13], ARGV[14], ARGV[15] }, '.') or table.concat({ e, int(off), int(us) }, '.')
  heads[id] = head .. '\n' .. at[1] .. ' ' .. at[2] .. more
  call('HSET', ITEMS, id, heads[id])
end

-- Was the item changed after the mark that is made again? Offsets tell it within an epoch. Between two, of which Redis may have forgotten either, its
-- clock does; but whatever belongs to the current one came after everything that was lost.
local function overtaken(id)
  if not again or not slot then return false end
  local _, at = last(id)
  local epoch, off, at_us = string.match(at[slot], '^(%w+)%.(%d+)%.(%d+)$')
  if not epoch then return false end
  if epoch == ARGV[13] then return tonumber(off) > tonumber(ARGV[14]) end
  return epoch == e or tonumber(at_us) > tonumber(ARGV[15])
end

-- each tells whether it changed something
local apply = {
  s = function(id) return call('ZREM', UNSEEN, id) == 1 end,
  r = function(id)
    call('ZREM', UNSEEN, id) -- what is read was seen; what is unseen is unread
    call('ZREM', CATEGORIES, member(id))
    return call('ZREM', UNREAD, id) == 1
  end,
  u = function(id, off)
    if call('ZADD', UNREAD, 'NX', off, id) == 0 then return false end
    if not call('ZSCORE', ARCHIVED, id) then call('ZADD', CATEGORIES, 0, member(id)) end
    return true
  end,
  a = function(id, off)
    call('ZREM', UNSEEN, id)
    call('ZREM', CATEGORIES, member(id))
    return call('ZADD', ARCHIVED, 'NX', off, id) == 1
  end,
  v = function(id)
    if call('ZREM', ARCHIVED, id) == 0 then return false end
    if call('ZSCORE', UNREAD, id) then call('ZADD', CATEGORIES, 0, member(id)) end
    return true
  end,
  d = function(id, off)
    drop({ id, off })
    heads[id] = ''
    return true
  end,
}

local wanting -- those that are not yet as they shall be; nil: any may be so
if ARGV[2] ~= 'ids' then
  if ARGV[2] == 'upto' and ARGV[3] ~= e then return { -1, int(s), e, r, us, 0 } end
  ids = range(INDEX, s)
  local set = ({ s = UNSEEN, r = UNREAD, v = ARCHIVED })[change]
  if set then
    wanting = {}
    for _, id in ipairs(range(set, s)) do wanting[id] = true end
  end
end

-- Lets ids go as many.lua does, with the rights of who only marks.
local function forget(kept)
  local over = call('ZCARD', DEDUPE) - kept
  if over <= 63 then return end
  for i = 1, over, 500 do
    call('ZREM', DEDUPE, unpack(call('ZRANGEBYSCORE', DEDUPE, '-inf', '+inf', 'LIMIT', '0', int(math.min(500, over - i + 1)))))
  end
end

local done, some = {}, {}
local function event(what, which)
  if #which == 0 then return end
  s = s + 1
  local off, list = int(s), table.concat(which, ',')
  call('XADD', EVENTS, 'MAXLEN', '=', ARGV[7], off .. '-0', 'k', what, 'i', list, 'd', ARGV[5])
  call('HSET', META, 's', off)
  local unread, unseen, by = counts()
  call(ARGV[9], KEYS[12], envelope(e, off, off, unread, unseen, by, what, list, ARGV[5]))
  for _, id in ipairs(which) do done[#done + 1] = id end
end
local seen = {} -- of marks that were overtaken: what is read or archived was seen, and that is for good
for _, id in ipairs(ids) do
  local idle = wanting and not wanting[id]
  local off = not idle and call('ZSCORE', INDEX, id)
  if idle then
    remember(id, s)
  elseif not off then
    unknown[#unknown + 1] = id
  elseif overtaken(id) then
    if (change == 'r' or change == 'a') and apply.s(id) then seen[#seen + 1] = id end
  else
    local did = apply[change](id, off)
    remember(id, did and s + 1 or s)
    if did then some[#some + 1] = id end
    if #some == 500 then
      event(change, some)
      some = {}
    end
  end
end
event(change, some)
event('s', seen)
if #done > 0 then
  if REMEMBERED then forget(ARGV[18]) end
  live_together(l, now, tonumber(ARGV[8]), ({ u = { UNREAD, CATEGORIES }, a = { ARCHIVED }, v = { CATEGORIES } })[change] or {})
  changed(KEYS[10], KEYS[11], ARGV[10], now)
end
if not again then
  table.insert(programs, 1, table.concat({ ARGV[16], ARGV[17], #done, e, int(s), int(us) }, ':'))
  call('HSET', META, 'm', table.concat(programs, ' '))
end
return answer(#done, int(s), e, us, ids)
