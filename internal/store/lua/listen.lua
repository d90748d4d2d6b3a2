-- lib. Has a partition keep what a tenant's backends are to be told, from now on and for a while. KEYS 1 events, 2 their meta, 3 who is online
-- ARGV 1 group, '' for none, 2 the id after which it begins where it is not there, 3 lifetime ms, 4 most events, 5 most bytes, 6 '1': it begins anew where it is there
-- Answers 1 where the group began by this.
local log, meta, online, began = KEYS[1], KEYS[2], KEYS[3], 0
if ARGV[1] ~= '' then
  if ARGV[6] == '1' then redis.pcall('XGROUP', 'DESTROY', log, ARGV[1]) end -- what it had not done with is told as a gap
  local made = redis.pcall('XGROUP', 'CREATE', log, ARGV[1], ARGV[2], 'MKSTREAM')
  if type(made) == 'table' and made.err then
    if not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
  else
    began = 1
  end
end
local ttl = math.max(tonumber(ARGV[3]), call('PTTL', meta)) -- who listens longer stays
call('HSET', meta, 'n', ARGV[4], 'y', ARGV[5])
if not call('HGET', meta, 'b') then -- it is new, or lost: what the events themselves say is not less than the truth
  local last = call('XREVRANGE', log, '+', '-', 'COUNT', '1')[1]
  call('HSET', meta, 'b', last and last[2][2] or '0')
end
call('PEXPIRE', meta, int(ttl))
call('PEXPIRE', online, int(ttl)) -- nobody tells of it any longer than that
call('PEXPIRE', log, int(ttl + 3600000))
return began
