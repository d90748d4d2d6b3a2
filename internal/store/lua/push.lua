-- Alone. The browsers of a user that are pushed to. KEYS 1 HASH key to <ms of Redis' clock when it was stored last>\n<what Go makes of it>
-- ARGV 1 'set' | 'forget' | 'forget all' | 'renew' | 'get', 2 lifetime ms; of set 3 key, 4 value, 5 most; of forget 3 key
-- Answers, of forget and forget all, how many went; of get, keys and values in turns; else how many there are.
local call, kind = redis.call, ARGV[1]

if kind == 'forget' then return call('HDEL', KEYS[1], ARGV[3]) end

local all = call('HGETALL', KEYS[1])
if kind == 'get' then return all end
if kind == 'forget all' then
  call('DEL', KEYS[1])
  return #all / 2
end

local here = {}
for i = 1, #all, 2 do here[#here + 1] = { key = all[i], at = tonumber(string.match(all[i + 1], '^%d+')) or 0 } end
if kind == 'set' then
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  call('HSET', KEYS[1], ARGV[3], string.format('%d', now) .. '\n' .. ARGV[4])
  local others = {}
  for _, one in ipairs(here) do
    if one.key ~= ARGV[3] then others[#others + 1] = one end
  end
  table.sort(others, function(a, b) return a.at < b.at or a.at == b.at and a.key < b.key end)
  while #others >= tonumber(ARGV[5]) do -- the oldest leaves
    call('HDEL', KEYS[1], table.remove(others, 1).key)
  end
  here = others
  here[#here + 1] = true
end
if #here > 0 then call('PEXPIRE', KEYS[1], ARGV[2]) end
return #here
