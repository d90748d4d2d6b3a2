-- lib, write, items, inbox, keep, fence, events. Keeps what a user did to items of a segment, which who calls has worked out, and tells every device of the user.
-- KEYS as notice.lua, of the user, 16 members, 17 their exceptions: audience.Record, 18 what backends are told, 19 its meta
-- ARGV 1 mark, 2 ids that it changed, with commas between them, 3 those that it had only seen, 4 segment, 5 body, and 6 to 18 as change.lua; 19 the member's line and
--      20 its exceptions as they were read, '' for none, 21 and 22 as they shall be, with '?' for when they were marked, 23 ms that both live at least, 24 ids of those
--      that nobody had seen before
-- Answers as mark.lua, without ids: {changed, offset, epoch, history id, now us, '', 0}; changed -2: held, -3: late, -4: they are not any more what was read, and nothing
-- is done. It makes the meta of a user who has none yet.
local us = now_us()
local now, r, again = math.floor(us / 1000), history_id(), ARGV[11] ~= ''
local kept = call('HMGET', META, 'e', 's', 'm')
local function answer(n, off, epoch, at) return { n, off, epoch, r, at, '', 0 } end
if again and held(ARGV[11], ARGV[12]) then return answer(-2, ARGV[12], ARGV[11], us) end
if not again then
  local did, epoch, off, at = made_before(kept[3], ARGV[16], ARGV[17])
  if did == 'late' then return answer(-3, '0', kept[1], us) end
  if did then return answer(did, off, epoch, at) end
end
if (call('HGET', KEYS[16], ARGV[4]) or '') ~= ARGV[19] or (call('HGET', KEYS[17], ARGV[4]) or '') ~= ARGV[20] then
  return answer(-4, kept[2] or '0', kept[1] or '', us)
end

local e, s, l, terms = position(ARGV[6], now)
TERMS = terms
local first, sent, number = s, {}, 0
for i, list in ipairs({ ARGV[2], ARGV[3] }) do
  if list ~= '' then
    s = s + 1
    local what = i == 1 and ARGV[1] or 's'
    number = number + select(2, string.gsub(list, ',', ',')) + 1
    call('XADD', EVENTS, 'MAXLEN', '=', ARGV[7], int(s) .. '-0', 'k', what, 'i', list, 'd', ARGV[5])
    sent[#sent + 1] = { int(s), what, list }
  end
end
if s > first then call('HSET', META, 's', int(s)) end
local stamp = table.concat({ e, int(math.min(s, first + 1)), int(us) }, '.')
call('HSET', KEYS[16], ARGV[4], (string.gsub(ARGV[21], '%?', stamp)))
if ARGV[22] ~= '' then
  call('HSET', KEYS[17], ARGV[4], (string.gsub(ARGV[22], '%?', stamp)))
else
  call('HDEL', KEYS[17], ARGV[4])
end
local lives = tonumber(ARGV[23])
for i = 16, 17 do
  if call('PTTL', KEYS[i]) < lives then call('PEXPIRE', KEYS[i], int(lives + lives / 4)) end
end
local unread, unseen, by = counts(now, terms)
live_together(l, now, tonumber(ARGV[8]), { EVENTS }, 11)
if s > first then changed(KEYS[12], KEYS[13], ARGV[10], now) end
for _, p in ipairs(sent) do call(ARGV[9], KEYS[14], envelope(e, p[1], int(s), unread, unseen, by, p[2], p[3], ARGV[5])) end
if not again then made(ARGV[16], ARGV[17], number, e, s, us, '') end
local user = string.match(ARGV[10], '^[^:]*:i:(.*)$')
if ARGV[24] ~= '' then tell(KEYS[18], KEYS[19], now, 's', user, ARGV[24], ARGV[5]) end
if ARGV[1] == 'r' and ARGV[2] ~= '' then tell(KEYS[18], KEYS[19], now, 'r', user, ARGV[2], ARGV[5]) end
return answer(number, int(s), e, us)
