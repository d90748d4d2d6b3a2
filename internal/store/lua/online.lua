-- Stands behind lib.lua and events.lua in the scripts that say who is online. KEYS 1 HASH user to the gateways that have him, '' where it is not told yet that none does,
-- 2 ZSET of the partition: member of a user's stream to when that is told, 3 events of the tenant's backends, 4 their meta. While nobody listens nothing is kept.
local online, waiting, log, meta = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = now_ms()

-- the gateways without one; nil where it is not among them
local function without(gateways, one)
  local rest, found = {}, false
  for g in string.gmatch(gateways, '%S+') do
    if g == one then found = true else rest[#rest + 1] = g end
  end
  return found and table.concat(rest, ' ') or nil
end

-- A user's last gateway is gone: that is told after a while, unless he comes back.
local function leave(user, rest, member, debounce)
  call('HSET', online, user, rest)
  if rest ~= '' then return end
  call('ZADD', waiting, int(now + debounce), member)
  local ttl = math.max(call('PTTL', meta), 0) + debounce + 3600000
  if call('PTTL', waiting) < ttl then call('PEXPIRE', waiting, int(ttl)) end
end
