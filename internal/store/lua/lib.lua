-- Stands in front of every other script: Redis scripts cannot share code. KEYS 1 meta, 2 events, 3 dedupe are the first of
-- every stream; all keys of a call share one hash tag. Scripts are not rolled back: what can fail on data comes first.
local META, EVENTS, DEDUPE = KEYS[1], KEYS[2], KEYS[3]

-- Lua prints numbers from 1e14 on as 1e+14 through '..'
local function int(n) return string.format('%d', tonumber(n)) end

local function now_us()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000000 + tonumber(t[2])
end

local function now_ms() return math.floor(now_us() / 1000) end

-- the id of the Redis history; '?' where the server does not tell it (the embedded one, or an ACL that hides it)
local function history_id()
  local info = redis.pcall('INFO', 'replication')
  return type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or '?'
end

-- What stands above the stream's own top in other keys, and what must go where it has no index: inbox.lua says more.
local leftovers = function() return 0 end

-- The badge of a user's stream: inbox.lua sets it. nil for other streams.
local counts

-- The stream's epoch and top, and the id of the Redis history. A new epoch where the Redis history is not the one the epoch belongs to, or where there was no
-- meta: offsets go on above everything still visible, and an old epoch is remembered with the top that was found of it, since
-- what a position up to there saw is still a prefix of this stream.
local function position(new_epoch, now)
  local m = redis.call('HMGET', META, 'e', 's', 'r', 'p')
  local r = history_id()
  local s = tonumber(m[2] or '0')
  if m[1] and m[3] == r then return m[1], s, r end
  local last = redis.call('XREVRANGE', EVENTS, '+', '-', 'COUNT', 1)
  if #last > 0 then s = math.max(s, tonumber(string.match(last[1][1], '^(%d+)'))) end
  s = math.max(s, leftovers())
  redis.call('HSET', META, 'v', '2', 'e', new_epoch, 's', int(s), 'r', r)
  if m[1] then
    local bases = { m[1] .. ':' .. int(s) }
    for base in string.gmatch(m[4] or '', '%S+') do
      if #bases < 4 then bases[#bases + 1] = base end
    end
    redis.call('HSET', META, 'p', table.concat(bases, ' '))
  else
    redis.call('HSET', META, 'b', int(now))
  end
  return new_epoch, s, r
end

-- Up to where a stream has what was acknowledged in each epoch that it remembers: '<epoch>:<offset> …', '' where there is none.
local function tops(meta)
  local m = redis.call('HMGET', meta, 'e', 's', 'p')
  return m[1] and m[1] .. ':' .. m[2] .. ' ' .. (m[3] or '') or ''
end

-- Is what was acknowledged at a position still here? A new write has no such position.
local function held(epoch, offset)
  local top = epoch ~= '' and string.match(' ' .. tops(META), ' ' .. epoch .. ':(%d+)')
  return top and tonumber(offset) <= tonumber(top)
end

-- lives at least ttl from now on, touched at most once per quarter of it
local function live(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, int(ttl + ttl / 4)) end
end

-- the change index of the partition: which streams were written in the last minute, by a tick that never falls
local function changed(index, tick, member, now)
  local n = math.max(now, tonumber(redis.call('GET', tick) or '0'))
  redis.call('SET', tick, int(n), 'PX', 600000)
  redis.call('ZADD', index, int(n), member)
  local old = redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. int(n - 60000), 'LIMIT', 0, 100)
  if #old > 0 then redis.call('ZREM', index, unpack(old)) end
  redis.call('PEXPIRE', index, 600000)
end

-- what goes in front of a body on the channel (keyspace/codec.go reads it)
local function envelope(e, off, unread, unseen, by, change, ids, body)
  return table.concat({ '2', e, off, off, unread, unseen, by, change, ids, body }, '\n')
end
