-- lib, events, online. A gateway is gone: its users have left it. ARGV 1 gateway, 2 ms until it is told that a user is gone, 3 tenant, 4 cursor
-- Answers the next cursor, '0' at the end. It looks at some 500 users, wherever there are more.
local found = call('HSCAN', online, ARGV[4], 'COUNT', '500')
for i = 1, #found[2], 2 do
  local user = found[2][i]
  local rest = without(found[2][i + 1], ARGV[1])
  if rest then leave(user, rest, ARGV[3] .. ':i:' .. user, tonumber(ARGV[2])) end
end
return found[1]
