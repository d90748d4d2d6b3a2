-- How far are the replicas? KEYS: any of a partition, to find its server. Only those that have finished their first synchronisation count.
-- Answers {history id, offset of replication, replicas, the lowest offset of theirs}.
local info = redis.pcall('INFO', 'replication')
local id = type(info) == 'string' and string.match(info, 'master_replid:(%x+)')
if not id then return { '?', '0', 0, '0' } end
local n, lowest = 0, nil
for off in string.gmatch(info, 'slave%d+:[^\r\n]*state=online,offset=(%d+)') do
  n, lowest = n + 1, math.min(lowest or tonumber(off), tonumber(off))
end
return { id, string.match(info, 'master_repl_offset:(%d+)') or '0', n, string.format('%d', lowest or 0) }
