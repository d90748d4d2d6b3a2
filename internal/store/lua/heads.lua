-- What does a segment hold? KEYS 1 meta, 2 index, 3 items, 4 collapse keys. ARGV 1 items at most, and no more than 500. It writes nothing.
-- Answers {epoch ('' where there is no segment), top, bases, items, replaced}, the last two a line for each, as audience.ParseBoard reads them.
local call = redis.call
local m = call('HMGET', KEYS[1], 'e', 's', 'p', 'o')
if not m[1] then return { '', '0', '', '', '' } end
local scored = call('ZREVRANGE', KEYS[2], '0', string.format('%d', ARGV[1] - 1), 'WITHSCORES')
local ids, there = {}, {}
for i = 1, #scored, 2 do
  ids[#ids + 1] = scored[i]
  there[scored[i]] = true
end
local heads = #ids > 0 and call('HMGET', KEYS[3], unpack(ids)) or {}
local items = {}
for i = #ids, 1, -1 do -- the oldest first
  local flags, category, expires = string.match(heads[i] or '', '^([^\n]*)\n([^\n]*)\n(%d+)\n')
  if flags then
    local since = string.match(' ' .. flags, ' t(%d+)') or '0'
    local must = string.find(' ' .. flags .. ' ', ' ! ', 1, true) and '!' or '-'
    items[#items + 1] = table.concat({ scored[2 * i], ids[i], expires, since, must, category }, ' ') .. '\n'
  end
end

-- The ids of items whose place others have taken, that are still there: 'l\0<id>' leads to a chain and its collapse key, 'k\0<key>' to the item that came with it
-- last, and its chain.
local replaced, old = {}, {}
if m[4] then
  for _, field in ipairs(call('HKEYS', KEYS[4])) do
    if string.sub(field, 1, 2) == 'l\0' then old[#old + 1] = field end
  end
end
for i = 1, #old, 500 do
  local keys = call('HMGET', KEYS[4], unpack(old, i, math.min(i + 499, #old)))
  local chains = {}
  for j, alias in ipairs(keys) do
    local chain, key = string.match(alias or '', '^(%S+) (.*)$')
    chains[j], keys[j] = chain, 'k\0' .. (key or '')
  end
  for j, last in ipairs(call('HMGET', KEYS[4], unpack(keys))) do
    local id, chain = string.match(last or '', '^(%S+) %S+ (%S+)$')
    if id and there[id] and chain == chains[j] then replaced[#replaced + 1] = string.sub(old[i + j - 1], 3) .. ' ' .. id .. '\n' end
  end
end
return { m[1], m[2], m[3] or '', table.concat(items), table.concat(replaced) }
