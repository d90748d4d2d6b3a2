-- lib, events, online. Users of a tenant came to a gateway, or left it. ARGV 1 gateway, 2 ms until it is told that a user is gone, 3 tenant, 4… '+' or '-' and a user each.
-- Answers how many came of whom nobody knew.
local came = 0
if not listened(meta) then return came end
for i = 4, #ARGV do
  local what, user = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 2)
  local member, gateways = ARGV[3] .. ':i:' .. user, call('HGET', online, user)
  if what == '-' then
    local rest = gateways and without(gateways, ARGV[1])
    if rest then leave(user, rest, member, tonumber(ARGV[2])) end
  elseif not gateways then
    call('HSET', online, user, ARGV[1])
    tell(log, meta, now, 'n', user, '', '')
    came = came + 1
  elseif not without(gateways, ARGV[1]) then -- his time to come back, if that runs, comes to nothing (offline.lua)
    call('HSET', online, user, (gateways == '' and '' or gateways .. ' ') .. ARGV[1])
  end
end
if call('EXISTS', online) == 1 then call('PEXPIRE', online, int(math.max(call('PTTL', meta), 1))) end -- not longer than somebody listens
return came
