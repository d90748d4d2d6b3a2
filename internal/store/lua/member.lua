-- Which segments is a user of, and what was done there? KEYS 1 meta of the own stream, 2 members, 3 their exceptions: audience.Member
-- ARGV 1 when the token was issued in s, '' where none is shown: then nothing is written, 2 ms that these keys live, 3 ms for which a segment is remembered that was
--      left; of each segment that the token names its name and the line of who is there for the first time, '' where nobody knows yet where it begins
-- Answers {epoch ('' where there is no inbox), top, muted, {segment, line, …}, {segment, exceptions, …}}.
local call, most = redis.call, 64
local m = call('HMGET', KEYS[1], 'e', 's', 'f')
local lines, all = {}, call('HGETALL', KEYS[2])
for i = 1, #all, 2 do lines[all[i]] = all[i + 1] end
local function answer()
  local out = {}
  for segment, line in pairs(lines) do out[#out + 1], out[#out + 2] = segment, line end
  return { m[1] or '', m[2] or '0', m[3] or '', out, call('HGETALL', KEYS[3]) }
end
if ARGV[1] == '' then return answer() end

local t = call('TIME')
local now, iat, ttl = t[1] * 1000 + math.floor(t[2] / 1000), tonumber(ARGV[1]), tonumber(ARGV[2])
local function parts(line) return string.match(line, '^(%S+) (%d+) (%d+) (.*)$') end
local gone = {}
local function forget(segment)
  lines[segment] = nil
  gone[#gone + 1] = segment
end
local departed, number = {}, 0 -- those that were left, by when
for segment, line in pairs(lines) do
  local _, left = parts(line)
  number = number + 1
  if left ~= '0' and now - left >= tonumber(ARGV[3]) then
    departed[#departed + 1] = { tonumber(left), segment, true }
  elseif left ~= '0' then
    departed[#departed + 1] = { tonumber(left), segment, false }
  end
end
table.sort(departed, function(a, b) return a[1] < b[1] end)
for _, one in ipairs(departed) do
  if one[3] or number > most then
    forget(one[2])
    number = number - 1
  end
end

-- A token that is newer than the one which said so last says who is a member now; an older one says nothing.
local put, named = {}, {}
local function set(segment, line) lines[segment], put[#put + 1], put[#put + 2] = line, segment, line end
for i = 4, #ARGV, 2 do
  local segment, line = ARGV[i], lines[ARGV[i]]
  named[segment] = true
  if line then
    local joined, _, last, rest = parts(line)
    if iat > tonumber(last) then set(segment, joined .. ' 0 ' .. ARGV[1] .. ' ' .. rest) end
  elseif ARGV[i + 1] ~= '' then
    set(segment, ARGV[i + 1])
  end
end
local ends = {}
for segment, line in pairs(lines) do
  local _, left, last = parts(line)
  if not named[segment] and left == '0' and iat > tonumber(last) then ends[#ends + 1] = segment end
end
for _, segment in ipairs(ends) do
  local joined, _, _, rest = parts(lines[segment])
  set(segment, joined .. ' ' .. string.format('%d', now) .. ' ' .. ARGV[1] .. ' ' .. rest)
end

-- Tokens that do not say when they were issued end nothing: of what they named, and this one does not, no more is remembered than of what was left.
local others = {}
for segment, line in pairs(lines) do
  local _, left, last = parts(line)
  if not named[segment] and left == '0' then others[#others + 1] = { tonumber(last), segment } end
end
table.sort(others, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
for i = 1, #others - most do forget(others[i][2]) end

for i = 1, #gone, 500 do
  call('HDEL', KEYS[2], unpack(gone, i, math.min(i + 499, #gone)))
  call('HDEL', KEYS[3], unpack(gone, i, math.min(i + 499, #gone)))
end
if #put > 0 then
  local done = redis.pcall('HSET', KEYS[2], unpack(put))
  if type(done) == 'table' and not string.find(done.err, '^OOM') then return done end -- full memory forgets who came, and refuses nobody
end
local left = call('PTTL', KEYS[2])
if left ~= -2 and left < ttl then
  for i = 2, 3 do call('PEXPIRE', KEYS[i], string.format('%d', ttl + ttl / 4)) end
end
return answer()
