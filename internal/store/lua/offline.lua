-- lib, events, online. Tells of users of a tenant whose time to come back is over that they are gone. ARGV 1 tenant, 2… users
-- Answers how many it told.
local told = 0
for i = 2, #ARGV do
  local member = ARGV[1] .. ':i:' .. ARGV[i]
  local at = call('ZSCORE', waiting, member)
  if at and tonumber(at) <= now then
    call('ZREM', waiting, member)
    if call('HGET', online, ARGV[i]) == '' then
      call('HDEL', online, ARGV[i])
      tell(log, meta, now, 'f', ARGV[i], '', '')
      told = told + 1
    end
  end
end
return told
