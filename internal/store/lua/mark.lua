-- lib, inbox. Changes the state of items. KEYS as notify.lua
-- ARGV 1 change, 2 'ids' | 'upto' | 'all', 3 epoch and 4 offset of upto, 5 body, 6 new epoch, 7 events kept, 8 retention ms,
--      9 PUBLISH or SPUBLISH, 10 change member, 11… ids
-- Answers {changed, offset, epoch, unknown ids…}; changed -1: upto is of another epoch. Nothing changed: no event.
if redis.call('EXISTS', META) == 0 then
  local unknown = { 0, '0', '' }
  for i = 11, #ARGV do unknown[#unknown + 1] = ARGV[i] end
  return unknown
end
local now, change = now_ms(), ARGV[1]
local e, s = position(ARGV[6], now)

-- each tells whether it changed something
local apply = {
  s = function(id) return redis.call('ZREM', UNSEEN, id) == 1 end,
  r = function(id)
    redis.call('ZREM', UNSEEN, id) -- what is read was seen; what is unseen is unread
    redis.call('ZREM', CATEGORIES, member(id))
    return redis.call('ZREM', UNREAD, id) == 1
  end,
  u = function(id, off)
    if redis.call('ZADD', UNREAD, 'NX', off, id) == 0 then return false end
    if not redis.call('ZSCORE', ARCHIVED, id) then redis.call('ZADD', CATEGORIES, 0, member(id)) end
    return true
  end,
  a = function(id, off)
    redis.call('ZREM', UNSEEN, id)
    redis.call('ZREM', CATEGORIES, member(id))
    return redis.call('ZADD', ARCHIVED, 'NX', off, id) == 1
  end,
  v = function(id)
    if redis.call('ZREM', ARCHIVED, id) == 0 then return false end
    if redis.call('ZSCORE', UNREAD, id) then redis.call('ZADD', CATEGORIES, 0, member(id)) end
    return true
  end,
  d = function(id) drop(id) return true end,
}

local ids, unknown = {}, {}
if ARGV[2] == 'ids' then
  for i = 11, #ARGV do ids[#ids + 1] = ARGV[i] end
else
  if ARGV[2] == 'upto' and ARGV[3] ~= e then return { -1, int(s), e } end
  local from = ({ s = UNSEEN, r = UNREAD, v = ARCHIVED })[change] or INDEX
  ids = redis.call('ZRANGEBYSCORE', from, '-inf', ARGV[2] == 'upto' and ARGV[4] or '+inf')
end

local total, some = 0, {}
local function event()
  if #some == 0 then return end
  s = s + 1
  local off, list = int(s), table.concat(some, ',')
  redis.call('XADD', EVENTS, 'MAXLEN', '=', ARGV[7], off .. '-0', 'k', change, 'i', list, 'd', ARGV[5])
  redis.call('HSET', META, 's', off)
  local unread, unseen, by = counts()
  redis.call(ARGV[9], KEYS[12], envelope(e, off, unread, unseen, by, change, list, ARGV[5]))
  total, some = total + #some, {}
end
for _, id in ipairs(ids) do
  local off = redis.call('ZSCORE', INDEX, id)
  if not off then
    unknown[#unknown + 1] = id
  elseif apply[change](id, off) then
    some[#some + 1] = id
    if #some == 500 then event() end
  end
end
event()
if total > 0 then
  live_together(tonumber(ARGV[8]))
  changed(KEYS[10], KEYS[11], ARGV[10], now)
end
return { total, int(s), e, unpack(unknown) }
