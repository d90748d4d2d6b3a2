-- What follows a position? It creates nothing; where the Redis history changed and the position is not the top, it moves an
-- existing meta to a new epoch, as a write would.
-- ARGV 1 epoch, 2 offset, 3 messages at most (0: check only), 4 bytes at most, 5 new epoch, 6 meta's life ms
-- Answers {'delta' | 'empty', epoch, position, top, now ms, unread, unseen, by, offset, change, ids, body, …} or {'reset', …, by, why}: why is
-- gone (trimmed), lost (Redis does not have what was seen there), unknown (an epoch of no history it remembers) or forgotten (too long ago).
local now = now_ms()
local m = call('HMGET', META, 'e', 's', 'r', 'o')
local ce, co = ARGV[1], tonumber(ARGV[2])
-- a listener of a topic that did not exist, at that time; it is forgotten after a life: one may have come and gone
local t = string.sub(ce, 1, 1) == '-' and tonumber(string.sub(ce, 2)) * 1000 + 1767225600000
local forgotten = t and now - t >= tonumber(ARGV[6])
if not m[1] then return { forgotten and 'reset' or 'empty', '', '0', '0', int(now), 0, 0, '', forgotten and 'forgotten' or nil } end
local e, s = m[1], tonumber(m[2])
if not (ce == e and co == s) and m[3] ~= history_id() then e, s = position(ARGV[5], now) end

local from, why = nil, 'unknown'
if ce == e then
  if co <= s then from = co end
  why = 'lost'
elseif ce == '' then
  from = 0
elseif t then -- nothing is missing if it came into being since then, once
  if forgotten then why = 'forgotten' elseif tonumber(call('HGET', META, 'b')) >= t then from = 0 end
else
  for old, base in string.gmatch(call('HGET', META, 'p') or '', '(%S+):(%d+)') do
    if old == ce then
      if co <= tonumber(base) then from = co end
      why = 'lost'
    end
  end
end
if from and from < s then
  local next = call('XRANGE', EVENTS, int(from + 1) .. '-0', '+', 'COUNT', 1)
  if not next[1] or next[1][1] ~= int(from + 1) .. '-0' then from, why = nil, 'gone' end
end

local unread, unseen, by = 0, 0, ''
if counts then unread, unseen, by = counts(now, m[4]) end
if not from then
  local start = s
  if not counts or ce == '' then -- an event topic goes on with what is left of it; an inbox is listed anew, but who asks for everything gets it
    local oldest = call('XRANGE', EVENTS, '-', '+', 'COUNT', 1)[1]
    if oldest then start = tonumber(string.match(oldest[1], '^(%d+)')) - 1 end
  end
  return { 'reset', e, int(start), int(s), int(now), unread, unseen, by, why }
end
local out, bytes = { 'delta', e, int(from), int(s), int(now), unread, unseen, by }, 0
if tonumber(ARGV[3]) > 0 and from < s then
  for _, entry in ipairs(call('XRANGE', EVENTS, int(from + 1) .. '-0', '+', 'COUNT', ARGV[3])) do
    local f = entry[2]
    bytes = bytes + #f[4] + #f[6]
    if bytes > tonumber(ARGV[4]) and #out > 8 then break end
    local off = string.match(entry[1], '^(%d+)')
    out[3] = off
    out[#out + 1] = off
    for i = 2, 6, 2 do out[#out + 1] = f[i] end
  end
end
return out
