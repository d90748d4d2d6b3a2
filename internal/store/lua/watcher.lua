-- lib. A tenant's groups of watchers, and who watches. KEYS 1 HASH group to '<begun> <last contact> <last ack> <renewed> <lapsed> <gap from> <gap to>' in ms, 0 for none,
-- 2 ZSET <group>\0<watcher> to the end of its lease
-- ARGV 1 what, 2 group, 3 watcher, 4 lease ms, 5 ms until a group that nobody speaks for is over, 6 ms between two renewals, 7 groups at most,
--      8 and 9 of 'gap' and 'told' from and to, of 'lapse' 8 since when it has had no ack
-- what: 'begin' a Watch; 'stay' in it; 'leave' it; 'ack'; 'gap' is owed to the group; 'told': it has that gap; 'lapse': it is over where it has had no ack since
-- Answers {now, 1 where the group is new, 1 where the keys of its partitions are to be renewed, lapsed, gap from, gap to, last contact before this, begun, watcher, …},
-- now -1: there are too many groups; of lapse {1 where it lapsed by this}.
local now = now_ms()
local groups, watchers, what, group = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local kept, g, fresh = call('HGET', groups, group), {}, 0
for n in string.gmatch(kept or '', '%d+') do g[#g + 1] = tonumber(n) end
if #g ~= 7 then
  if what ~= 'begin' and what ~= 'stay' and what ~= 'gap' then return { int(now), 0, 0, '0', '0', '0', '0', '0' } end
  if call('HLEN', groups) >= tonumber(ARGV[7]) then return { '-1' } end
  g, fresh = { now, now, now, 0, 0, 0, 0 }, 1
end
local before, renew = g[2], 0

if what == 'lapse' then
  if g[5] > 0 or math.max(g[1], g[3]) >= tonumber(ARGV[8]) and now - g[2] < tonumber(ARGV[5]) then return { 0 } end
  g[5] = math.max(g[1], g[3])
elseif what == 'gap' then
  if g[6] == 0 then g[6] = tonumber(ARGV[8]) end
  g[7] = tonumber(ARGV[9])
elseif what == 'told' and g[6] == tonumber(ARGV[8]) and g[7] == tonumber(ARGV[9]) then
  g[6], g[7] = 0, 0
end
if what == 'begin' then
  if g[5] == 0 and now - g[2] >= tonumber(ARGV[5]) then g[5] = math.max(g[1], g[3]) end
  if g[5] > 0 then -- it goes on from here
    if g[6] == 0 then g[6] = g[5] end
    g[3], g[5], g[7] = now, 0, now
  end
end
if what == 'begin' or what == 'stay' or what == 'ack' then
  g[2] = now
  if what == 'ack' then g[3] = now end
  if what ~= 'ack' then call('ZADD', watchers, int(now + tonumber(ARGV[4])), group .. '\0' .. ARGV[3]) end
  if now - g[4] >= tonumber(ARGV[6]) or what == 'begin' then g[4], renew = now, 1 end
elseif what == 'leave' then
  call('ZREM', watchers, group .. '\0' .. ARGV[3])
end
for i, n in ipairs(g) do g[i] = int(n) end
call('HSET', groups, group, table.concat(g, ' '))
call('PEXPIRE', groups, '2592000000')
if what == 'lapse' then return { 1 } end

local out = { int(now), fresh, renew, g[5], g[6], g[7], int(before), g[1] }
local gone = call('ZRANGEBYSCORE', watchers, '-inf', int(now), 'LIMIT', '0', '500')
if #gone > 0 then call('ZREM', watchers, unpack(gone)) end
if call('EXISTS', watchers) == 1 then call('PEXPIRE', watchers, int(4 * tonumber(ARGV[4]))) end
for _, one in ipairs(call('ZRANGEBYSCORE', watchers, '-inf', '+inf')) do
  if string.sub(one, 1, #group + 1) == group .. '\0' then out[#out + 1] = string.sub(one, #group + 2) end
end
return out
