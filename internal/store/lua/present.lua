-- lib. A gateway says that it is there, and hears whose backends want to know who is online. KEYS 1 ZSET tenant to until when somebody listens to it, 2 ZSET gateway to the
-- end of its lease. ARGV 1 gateway, 2 lease ms, 3 '1' where it comes with a new name, 4 its former name, or '': it lives until all of its users are told under the
-- new one, also where it was over, since what was told late under it is taken back only when it ends
-- Answers {1, tenant, …}, with 0 where its lease is over or lost: it is to take a new name. A name that is over is nobody's again. Nobody listens: nothing is written.
local now = now_ms()
local out = { 1 }
for _, tenant in ipairs(call('ZRANGEBYSCORE', KEYS[1], '(' .. int(now), '+inf')) do out[#out + 1] = tenant end
if #out == 1 then return out end
local ends = call('ZSCORE', KEYS[2], ARGV[1])
if ARGV[3] ~= '1' and (not ends or tonumber(ends) <= now) then
  out[1] = 0
  return out
end
call('ZADD', KEYS[2], int(now + tonumber(ARGV[2])), ARGV[1])
if ARGV[4] ~= '' then call('ZADD', KEYS[2], int(now + tonumber(ARGV[2])), ARGV[4]) end
call('PEXPIRE', KEYS[2], '86400000')
return out
