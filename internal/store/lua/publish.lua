-- lib, write, many. Appends messages to event topics. KEYS, of each topic: its three, 4 change index, 5 its tick, 6 channel
-- ARGV 1 new epoch, 2 ids kept, 3 PUBLISH or SPUBLISH; of each topic messages kept, entries' ttl ms, meta's life ms, change member, number of messages; of each
--      message id, body, epoch and offset with which it was acknowledged before, '' and 0 for a new one
-- Answers what many.lua says, unread always 0.
local k, a = 1, 4

-- Entries live at least ttl from now on, the memory of epoch and top its life. Both are touched once in a ttl at most: the memory has that in reserve.
local function live(l, ttl, life)
  if l and l >= now + ttl then return end
  call('PEXPIRE', EVENTS, int(2 * ttl))
  call('PEXPIRE', DEDUPE, int(2 * ttl))
  if call('PTTL', META) < life + ttl then call('PEXPIRE', META, int(life + math.max(life / 4, 2 * ttl))) end
  call('HSET', META, 'l', int(now + 2 * ttl))
end

local function topic()
  local e, s, l = position(ARGV[1], now)
  local first, got, written = s, { e }, {}
  for j = 1, tonumber(ARGV[a + 4]) do
    local m, at = a + 1 + 4 * j, 4 * j - 2
    local id, off, code = ARGV[m], int(s + 1), 0
    if ARGV[m + 2] ~= '' and held(ARGV[m + 2], ARGV[m + 3]) then
      off, code = ARGV[m + 3], 2
    elseif call('ZADD', DEDUPE, 'NX', off, id) == 0 then
      off, code = int(call('ZSCORE', DEDUPE, id)), 1
    else
      local made = redis.pcall('XADD', EVENTS, 'MAXLEN', '=', ARGV[a], off .. '-0', 'k', 'm', 'i', id, 'd', ARGV[m + 1])
      if type(made) == 'table' then
        call('ZREM', DEDUPE, id)
        error(made)
      end
      s = s + 1
      top = s
      written[#written + 1] = j
    end
    got[at], got[at + 1], got[at + 2], got[at + 3] = code, off, 0, 0
  end
  if s > first then
    call('HSET', META, 's', int(s))
    forget(ARGV[2])
    changed(KEYS[k + 3], KEYS[k + 4], ARGV[a + 3], now)
  end
  if s > first or not l then live(l, tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])) end
  for _, j in ipairs(written) do
    local m, at = a + 1 + 4 * j, 4 * j - 2
    got[at + 2] = call(ARGV[3], KEYS[k + 5], envelope(e, got[at + 1], got[at + 1], '0', '0', '', 'm', ARGV[m], ARGV[m + 1]))
  end
  return got
end

while KEYS[k] do
  META, EVENTS, DEDUPE = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  answer(topic, ARGV[a + 2])
  k, a = k + 6, a + 5 + 4 * tonumber(ARGV[a + 4])
end
return replies
