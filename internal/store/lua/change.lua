-- lib, write, items, inbox, keep, fence. Gives an item other data, or takes it back. KEYS as notice.lua, of one stream
-- ARGV 1 'p' update | 't' retract, 2 what is named: 'i' an item's id | 'k' a collapse key | 'x' that item alone, where it is made again, 3 its name, 4 version or '',
--      5 body, 6 new epoch, 7 events kept, 8 retention ms, 9 PUBLISH or SPUBLISH, 10 change member, 11 epoch and 12 offset with which it was acknowledged before, ''
--      and 0 for a new one, 13 epoch, 14 offset and 15 Redis' us of its first acknowledgement, 16 program that makes a new one and 17 its number there, 18 ids kept
-- Answers {code, offset, epoch, history id, now us, id of the item, '' where a collapse key has none}. It makes the meta of a user who has none yet where
-- something is taken back by its id; codes are 0 done, 1 nothing to do, 2 held, 6 there is no such item, 7 it is of a newer version,
-- 8 what waited for its time does not come: there is no event, -3 late. By its collapse key one goes in a call, the item first, then the last of those that wait. What was taken back does not come any more, also where it has not come yet.
local us = now_us()
local now = math.floor(us / 1000)
local what, again, name = ARGV[1], ARGV[11] ~= '', ARGV[3]
local item = ARGV[2] ~= 'k' and name or '' -- as far as it is not known better
local r, kept = history_id(), call('HMGET', META, 'e', 'm')
if not kept[1] and (what == 'p' or ARGV[2] == 'k') then return { what == 'p' and 6 or 1, '0', '', r, us, item } end
local e, s, l, terms = position(ARGV[6], now)
TERMS = terms
if again and held(ARGV[11], ARGV[12]) then return { 2, ARGV[12], ARGV[11], r, us, item } end
if not again then
  local did, epoch, off, at = made_before(kept[2], ARGV[16], ARGV[17])
  if did == 'late' then return { -3, '0', e, r, us, item } end
  if did and did > 0 then return { did, off, epoch, r, at, item } end
  if did then
    local entry = call('XREVRANGE', EVENTS, off .. '-0', off .. '-0')[1]
    local event = entry and entry[2][2] == what
    return { 0, off, epoch, r, at, event and entry[2][4] or item }
  end
end
local first = s
s = expire(e, s, now, ARGV[7], ARGV[9], KEYS[14])

local id, place
if ARGV[2] == 'k' then
  id = TERMS and last_of(name)
  place = id and call('ZSCORE', INDEX, id)
elseif ARGV[2] == 'i' then
  id, place = current(name)
else
  id, place = name, call('ZSCORE', INDEX, name)
end
for _, gone in ipairs(hidden) do
  if gone == id then place = nil end
end

local function event(body)
  s = s + 1
  call('XADD', EVENTS, 'MAXLEN', '=', ARGV[7], int(s) .. '-0', 'k', what, 'i', id, 'd', body)
  call('HSET', META, 's', int(s))
  local unread, unseen, by = badge()
  call(ARGV[9], KEYS[14], envelope(e, int(s), int(s), unread, unseen, by, what, id, body))
end

-- A body without its origin, which comes first where there is one (protobuf: field 4, of less than 128 bytes): who says the same says it again, from whatever page.
local function nameless(body)
  return string.byte(body) == 34 and string.sub(body, 3 + string.byte(body, 2)) or body
end

local function update()
  local flags, rest = string.match(place and call('HGET', ITEMS, id) or '', '^([^\n]*)(\n.*)$')
  if not flags then return again and (successor(name) or call('ZSCORE', DEDUPE, name)) and 1 or 6 end
  local version = string.match(' ' .. flags, ' v(%-?%d+)')
  if version and ARGV[4] ~= '' and tonumber(version) >= tonumber(ARGV[4]) then return (version == ARGV[4] or again) and 1 or 7 end
  local head, line, read, archived, at, more = string.match(rest, '^(\n[^\n]*\n[^\n]*\n[^\n]*)(\n?)(%S*) ?(%S*) ?(%S*)(.*)$')
  local epoch, off, at_us = string.match(at, '^(%w+)%.(%d+)%.(%d+)$')
  if again and later(e, epoch, off, at_us, ARGV[13], ARGV[14], ARGV[15]) then return 1 end
  if ARGV[4] == '' and nameless(call('HGET', ITEMS, id .. '\0u') or '') == nameless(ARGV[5]) then return 1 end
  if ARGV[4] ~= '' then
    flags = string.gsub(string.gsub(' ' .. flags, ' v%-?%d+', ''), '^ ', '')
    flags = flags .. (flags ~= '' and ' v' or 'v') .. ARGV[4]
  end
  at = again and table.concat({ ARGV[13], ARGV[14], ARGV[15] }, '.') or table.concat({ e, int(s + 1), int(us) }, '.')
  local stamps = table.concat({ read ~= '' and read or '-', archived ~= '' and archived or '-', at }, ' ')
  call('HSET', ITEMS, id, flags .. head .. '\n' .. stamps .. more, id .. '\0u', ARGV[5])
  event(ARGV[5])
  return 0
end

local function retract()
  if place then
    drop({ id, place })
    event(ARGV[5])
    return 0
  end
  local waits = TERMS and ARGV[2] == 'k' and call('HGET', COLLAPSE, 'p\0' .. name)
  if ARGV[2] == 'k' and not waits then return 1 end
  id = waits and string.match(waits, '[^,]+$') or name
  waits = TERMS and unschedule(id)
  if not call('ZSCORE', INDEX, id) then bar(id, s) end
  return waits and 8 or 1
end

local code = what == 'p' and update() or what == 't' and retract()
if REMEMBERED then forget_ids(ARGV[18]) end
without_terms()
live_together(l, now, tonumber(ARGV[8]), { COLLAPSE }, 11)
if s > first then changed(KEYS[12], KEYS[13], ARGV[10], now) end
if not again then made(ARGV[16], ARGV[17], code, e, s, us, '') end
return { code, int(s), e, r, us, id or item }
