-- Keeps a stream's memory alive while somebody listens: ARGV 1 ms. KEYS: its meta, or all keys of an inbox. Creates nothing.
local ttl = tonumber(ARGV[1])
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left < ttl then
  for i = 1, #KEYS do redis.call('PEXPIRE', KEYS[i], string.format('%d', ttl + ttl / 4)) end
end
return left
