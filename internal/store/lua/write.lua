-- Stands behind lib.lua in the scripts that write.

-- Is what was acknowledged at a position still here? A new write has no such position.
local function held(epoch, offset)
  local top = string.match(' ' .. tops(META), ' ' .. epoch .. ':(%d+)')
  return top and tonumber(offset) <= tonumber(top)
end

-- The change index of a partition: which streams were written in the last minute, by a tick that never falls. It moves in steps of half a second: who saw a tick
-- and looks from it on sees all of that step. What is done once a step is done each time while the tick is ahead of the clock, or its keys might go.
local STEPS = {} -- by tick, what this call has found or made it
local function changed(index, tick, member, now)
  if STEPS[tick] then
    call('ZADD', index, STEPS[tick], member)
    return
  end
  local n, last = now - now % 500, tonumber(call('GET', tick) or '0')
  local moves = last ~= n
  n = math.max(n, last)
  STEPS[tick] = int(n)
  call('ZADD', index, STEPS[tick], member)
  if not moves then return end
  call('SET', tick, STEPS[tick], 'PX', '600000')
  call('PEXPIRE', index, '600000')
  for _ = 1, 4 do
    local old = call('ZRANGEBYSCORE', index, '-inf', '(' .. int(n - 60000), 'LIMIT', '0', '500')
    if #old > 0 then call('ZREM', index, unpack(old)) end
    if #old < 500 then break end
  end
end

-- what goes in front of a body on the channel (keyspace/codec.go reads it); rev is the offset up to which the counts count
local function envelope(e, off, rev, unread, unseen, by, change, ids, body)
  return '2\n' .. e .. '\n' .. off .. '\n' .. rev .. '\n' .. unread .. '\n' .. unseen .. '\n' .. by .. '\n' .. change .. '\n' .. ids .. '\n' .. body
end
