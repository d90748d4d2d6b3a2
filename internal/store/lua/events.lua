-- Stands behind lib.lua in the scripts that tell backends what their users do: log is the events of a partition and tenant, meta what is known of them. Meta is there
-- while somebody listens; without it nothing is written. An entry begins with the bytes of all before it, so that those that are held are a difference, and never a
-- number that could drift.
local function listened(meta) return call('HGET', meta, 'n') end

local function write_event(log, meta, m, what, user, ids, body)
  local at, empty = m[3] or '0', call('XLEN', log) == 0
  call('XADD', log, '*', 'b', at, 't', what, 'u', user, 'i', ids, 'd', body)
  m[3] = int(tonumber(at) + 64 + #user + #ids + #body)
  call('HSET', meta, 'b', m[3])
  if empty then call('PEXPIRE', log, int(math.max(call('PTTL', meta), 0) + 3600000)) end -- longer than meta, whoever made it
end

local function full(log, m)
  local first = call('XRANGE', log, '-', '+', 'COUNT', '1')[1]
  return first and (call('XLEN', log) >= tonumber(m[1]) or tonumber(m[3]) - tonumber(first[2][2]) >= tonumber(m[2]))
end

-- Says what was left out, once there is room again.
local function tell_gap(log, meta, m)
  if not m[4] or full(log, m) then return end
  call('HDEL', meta, 'f', 't')
  write_event(log, meta, m, 'g', '', m[4] .. ' ' .. (m[5] or m[4]), '')
  m[4] = false
end

-- What was left out is one span with what was before, whichever of both is older.
local function leave_out(meta, m, from, to)
  m[4], m[5] = int(math.min(from, tonumber(m[4] or from))), int(math.max(to, tonumber(m[5] or to)))
  call('HSET', meta, 'f', m[4], 't', m[5])
end

-- An event is left out where there is no room: nothing that a user does fails for it.
local function tell(log, meta, now, what, user, ids, body)
  local m = call('HMGET', meta, 'n', 'y', 'b', 'f', 't')
  if not m[1] then return end
  tell_gap(log, meta, m)
  if full(log, m) then return leave_out(meta, m, now, now) end
  write_event(log, meta, m, what, user, ids, body)
end
