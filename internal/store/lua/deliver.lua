-- Stands behind keep.lua in the scripts that put notifications with terms into a stream. Wants now, us and top of many.lua.

-- Has something done at a time, in ms of Redis' clock. What the partition has in due wakes who does it; it may be too early. It lives for 30 days behind that, which
-- is how long nobody may run who looks at it.
local function deadline(what, id, ms, due, member)
  with_terms()
  call('ZADD', DEADLINES, int(ms), what .. '\0' .. id)
  call('ZADD', due, 'LT', int(ms), member)
  local lives = ms - now + 2592000000
  if call('PTTL', due) < lives then call('PEXPIRE', due, int(lives + 3600000)) end
end

local function parts_of(head) return string.match(head, '^([^\n]*)\n([^\n]*)\n(%d*)\n([^\n]*)') end

-- Is a message written, or waiting for its time? Answers its code and offset.
local function known(id, s)
  local dup = call('ZSCORE', DEDUPE, id) or call('ZSCORE', INDEX, id)
  if dup then return 1, place_of(dup) end
  if TERMS and call('HGET', COLLAPSE, 's\0' .. id) then return 10, int(s) end
end

-- Why a notification does not come into the stream now: its code, nil where it does. Who had it acknowledged before had it written.
local function refused(n, mute, s)
  local flags, category, expires = parts_of(n.head)
  if expires ~= '0' and tonumber(expires) <= now then
    if not n.first then return 3 end
    bar(n.id, s)
    return 2
  end
  if mute and category ~= '' and not n.first and not string.find(flags, '!', 1, true) and string.find(mute, ',' .. category .. ',', 1, true) then return 4 end
end

-- Puts an item on top, in the place of the one that has its collapse key; first is where and when it was acknowledged first, nil if it is new. Answers what its
-- event names and its offset; nil where what it would replace was acknowledged after it: then it is only known.
local function deliver(e, s, n, events, due, member)
  local flags, category, expires, key = parts_of(n.head)
  local off, names, old = int(s + 1), n.id, nil
  local first = n.first or { e, off, int(us) }
  if key ~= '' then
    local epoch, at, at_us, chain
    old, epoch, at, at_us, chain = last_of(key)
    if n.first and later(e, epoch, at, at_us, unpack(first)) then
      bar(n.id, s)
      call('HSET', COLLAPSE, 'l\0' .. n.id, chain .. ' ' .. key)
      return
    end
    local place = old and call('ZSCORE', INDEX, old)
    if place then names = n.id .. ',' .. old end
    call('XADD', EVENTS, 'MAXLEN', '=', events, off .. '-0', 'k', 'n', 'i', names, 'd', n.body)
    if place then drop({ old, place }) end
    with_terms()
    call('HSET', COLLAPSE, 'k\0' .. key, n.id .. ' ' .. table.concat(first, '.') .. ' ' .. (place and chain or n.id))
  else
    call('XADD', EVENTS, 'MAXLEN', '=', events, off .. '-0', 'k', 'n', 'i', names, 'd', n.body)
  end
  local since = 't' .. int(math.floor(first[3] / 1000)) .. (flags ~= '' and ' ' or '')
  call('ZADD', INDEX, off, n.id)
  call('HSET', ITEMS, n.id, since .. n.head, body_of(n.id), n.body)
  if raise then raise(n.id, off, category) end
  if tonumber(expires) > 0 then deadline('x', n.id, tonumber(expires), due, member) end
  if n.escalate ~= '' then
    call('HSET', ITEMS, n.id .. '\0w', string.sub(n.escalate, 1, 2) .. ' 0') -- due.lua says more
    deadline('w', n.id, now + tonumber(string.sub(n.escalate, 3)), due, member)
  end
  return names, off
end

-- Keeps a notification until its time comes.
local function schedule(n, ms, due, member)
  call('HSET', COLLAPSE, 's\0' .. n.id, n.head .. '\0' .. n.escalate .. '\0' .. n.body)
  local key = collapse_of(n.head)
  if key then
    local others = call('HGET', COLLAPSE, 'p\0' .. key)
    call('HSET', COLLAPSE, 'p\0' .. key, (others and others .. ',' or '') .. n.id)
  end
  deadline('s', n.id, ms, due, member)
end

-- The oldest make room for so many new items. Where fewer are kept than before the rest leaves with the writes that come.
local function room(new, kept)
  local over = call('ZCARD', INDEX) - kept
  if over > 0 then drop(call('ZRANGE', INDEX, 0, math.min(new + 8, over) - 1, 'WITHSCORES')) end
end
