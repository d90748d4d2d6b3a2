-- lib, write, items, inbox, keep, fence. Says which categories a user does not want. KEYS as notice.lua, of one user
-- ARGV 1 categories, sorted, with commas between them, 2–4 '', 5 body, and 6 to 18 as change.lua
-- Answers as change.lua, but for the id. It makes the meta of a user who has none yet.
local us = now_us()
local now = math.floor(us / 1000)
local again, list, r = ARGV[11] ~= '', ARGV[1], history_id()
local mute = list ~= '' and ',' .. list .. ',' or ''
local kept = call('HMGET', META, 'e', 'm', 'f', 'fs')
if not kept[1] and mute == '' then return { 1, '0', '', r, us } end
local e, s, l, terms = position(ARGV[6], now)
TERMS = terms
if again and held(ARGV[11], ARGV[12]) then return { 2, ARGV[12], ARGV[11], r, us } end
if not again then
  local did, epoch, off, at = made_before(kept[2], ARGV[16], ARGV[17])
  if did == 'late' then return { -3, '0', e, r, us } end
  if did then return { 1 - did, off, epoch, r, at } end
end
local epoch, off, at = string.match(kept[4] or '', '^(%w+)%.(%d+)%.(%d+)$')
if again and later(e, epoch, off, at, ARGV[13], ARGV[14], ARGV[15]) then return { 1, int(s), e, r, us } end
local first, code = s, 1
s = expire(e, s, now, ARGV[7], ARGV[9], KEYS[14])
if (kept[3] or '') ~= mute then
  code, s = 0, s + 1
  call('XADD', EVENTS, 'MAXLEN', '=', ARGV[7], int(s) .. '-0', 'k', 'f', 'i', list, 'd', ARGV[5])
  call('HSET', META, 's', int(s))
  if mute ~= '' then
    with_terms()
    call('HSET', META, 'f', mute)
  else
    call('HDEL', META, 'f')
  end
  local unread, unseen, by = badge()
  call(ARGV[9], KEYS[14], envelope(e, int(s), int(s), unread, unseen, by, 'f', list, ARGV[5]))
end
call('HSET', META, 'fs', again and table.concat({ ARGV[13], ARGV[14], ARGV[15] }, '.') or table.concat({ e, int(s), int(us) }, '.'))
if REMEMBERED then forget_ids(ARGV[18]) end
without_terms()
live_together(l, now, tonumber(ARGV[8]), { EVENTS }, 11)
if s > first then changed(KEYS[12], KEYS[13], ARGV[10], now) end
if not again then made(ARGV[16], ARGV[17], 1 - code, e, s, us, '') end
return { code, int(s), e, r, us }
