-- lib, events. Takes away what all groups have done with, and what is too old. KEYS 1 events, 2 their meta
-- ARGV 1 the first id that a group needs, '' where there is none, 2 the most that an event may be old in ms, 3 the same where there is no group
-- Answers {events left, bytes left, 1 where something was lost to a group}.
local log, meta = KEYS[1], KEYS[2]
local m = call('HMGET', meta, 'n', 'y', 'b', 'f', 't')
if not m[1] then return { 0, 0, 0 } end
local now, lost = now_ms(), 0
local function ms_of(id) return tonumber(string.match(id, '^(%d+)')) end
local old = now - tonumber(ARGV[2])
if ARGV[1] == '' then
  old = now - tonumber(ARGV[3])
else
  call('XTRIM', log, 'MINID', ARGV[1])
  local first = call('XRANGE', log, '-', '+', 'COUNT', '1')[1]
  if first and ms_of(first[1]) < old then
    leave_out(meta, m, ms_of(first[1]), old)
    lost = 1
  end
end
if old > 0 then call('XTRIM', log, 'MINID', int(old) .. '-0') end
tell_gap(log, meta, m)
local first = call('XRANGE', log, '-', '+', 'COUNT', '1')[1]
return { call('XLEN', log), first and int(tonumber(m[3]) - tonumber(first[2][2])) or '0', lost }
