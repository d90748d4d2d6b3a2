-- Stands in front of every other script: Redis scripts cannot share code. KEYS 1 meta, 2 events, 3 dedupe are the first of
-- every stream; all keys of a call share one hash tag on a cluster. Scripts are not rolled back: what can fail on data comes first.
local call = redis.call
local META, EVENTS, DEDUPE = KEYS[1], KEYS[2], KEYS[3]

-- Lua prints numbers from 1e14 on as 1e+14 through '..'
local format = string.format
local function int(n) return format('%d', n) end

local function now_us()
  local t = call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function now_ms() return math.floor(now_us() / 1000) end

-- the id of the Redis history; '?' where the server does not tell it (the embedded one, or an ACL that hides it). It is one for the whole of a call:
-- asked for once.
local HISTORY
local function history_id()
  if not HISTORY then
    local info = redis.pcall('INFO', 'replication')
    HISTORY = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or '?'
  end
  return HISTORY
end

-- What stands above the stream's own top in other keys, and what must go where it has no index: inbox.lua says more.
local leftovers

-- The badge of a user's stream, unread, unseen and 'category=unread,…': inbox.lua sets it. nil for other streams.
local counts

local function badge()
  if counts then return counts() end
  return 0, 0, ''
end

-- The stream's epoch and top, until when its keys live at least, in ms of Redis' clock (meta, 'l'; nil: nobody knows), and whether it has terms (items.lua). A new epoch where the Redis
-- history is not the one the epoch belongs to, or where there was no meta: offsets go on above everything still visible, and an old epoch is remembered
-- with the top that was found of it, since what a position up to there saw is still a prefix of this stream.
local function position(new_epoch, now)
  local m = call('HMGET', META, 'e', 's', 'r', 'l', 'o')
  local r = history_id()
  if m[1] and m[3] == r then return m[1], tonumber(m[2]), m[4] and tonumber(m[4]), m[5] end
  local s = tonumber(m[2] or '0')
  local last = call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)
  if #last > 0 then s = math.max(s, tonumber(string.match(last[1][1], '^(%d+)'))) end
  if leftovers then
    call('HSET', META, 'v', '2') -- first what full memory refuses: it refuses nothing any more to a call that has written
    s = math.max(s, leftovers())
  end
  call('HSET', META, 'v', '2', 'e', new_epoch, 's', int(s), 'r', r)
  if m[1] then
    local bases = { m[1] .. ':' .. int(s) }
    for base in string.gmatch(call('HGET', META, 'p') or '', '%S+') do
      if #bases < 4 then bases[#bases + 1] = base end
    end
    call('HSET', META, 'p', table.concat(bases, ' '))
  else
    call('HSET', META, 'b', int(now))
  end
  return new_epoch, s, nil, m[5]
end

-- Up to where a stream has what was acknowledged in each epoch that it remembers: '<epoch>:<offset> …', '' where there is none.
local function tops(meta)
  local m = call('HMGET', meta, 'e', 's', 'p')
  return m[1] and m[1] .. ':' .. m[2] .. ' ' .. (m[3] or '') or ''
end
