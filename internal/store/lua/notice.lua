-- lib, write, many, items, inbox, keep, deliver. Appends notifications with terms, and whatever comes to a stream that has some. KEYS, of each stream: its eleven,
-- 12 change index, 13 its tick, 14 channel, 15 the partition's deadlines
-- ARGV 1 new epoch, 2 events kept, 3 ids kept, 4 retention ms, 5 PUBLISH or SPUBLISH, 6 items kept; of each stream change member, number of messages, no more than
--      items are kept; of each message id, body, change, head of the item ('' for a message), not before ms ('' for at once), escalate ('' or <S|R><W|P><ms>), epoch
--      and offset with which it was acknowledged before, '' and 0 for a new one, and epoch, offset and Redis' us of its first acknowledgement
-- Answers what many.lua says. What comes in one call counts together, but sees what those before it did.
local k, a, fields = 1, 7, 11

local function stream()
  local e, s, l, terms = position(ARGV[1], now)
  TERMS, REMEMBERED = terms, false
  local first, ttl, sent, new, got = s, tonumber(ARGV[4]), {}, 0, { e }
  local lives, mute, due, member = ttl, TERMS and call('HGET', META, 'f'), KEYS[k + 14], ARGV[a]
  s = expire(e, s, now, ARGV[2], ARGV[5], KEYS[k + 13])
  top = s
  for j = 1, tonumber(ARGV[a + 1]) do
    local m = a + 2 + fields * (j - 1)
    local n = { id = ARGV[m], body = ARGV[m + 1], head = ARGV[m + 3], escalate = ARGV[m + 5] }
    if ARGV[m + 8] ~= '' then n.first = { ARGV[m + 8], ARGV[m + 9], ARGV[m + 10] } end
    if n.first and ARGV[m + 4] ~= '' then n.first = { 'x', ARGV[m + 4], ARGV[m + 4] .. '000' } end -- it came at its time, in whatever epoch
    local code, off, names = 2, ARGV[m + 7], nil
    if ARGV[m + 6] == '' or not held(ARGV[m + 6], off) then
      code, off = known(n.id, s)
      if code == 10 and n.first then code, off = 2, ARGV[m + 7] end
      if not code and n.head ~= '' then code, off = refused(n, mute, s), int(s) end
      if not code and ARGV[m + 4] ~= '' and tonumber(ARGV[m + 4]) > now then
        code = 5
        schedule(n, tonumber(ARGV[m + 4]), due, member)
        lives = math.max(lives, tonumber(ARGV[m + 4]) - now + ttl)
      elseif not code and n.head == '' then
        code, off, names = 0, int(s + 1), n.id
        call('XADD', EVENTS, 'MAXLEN', '=', ARGV[2], off .. '-0', 'k', ARGV[m + 2], 'i', n.id, 'd', n.body)
        call('ZADD', DEDUPE, off, n.id)
        REMEMBERED = true
      elseif not code then
        names, off = deliver(e, s, n, ARGV[2], due, member)
        code, new = names and 0 or 2, new + (names and 1 or 0)
      end
    end
    if code == 0 then
      s = s + 1
      top = s
      call('HSET', META, 's', int(s))
      sent[#sent + 1] = { at = 4 * j, off = off, change = ARGV[m + 2], names = names, body = n.body }
    end
    for _, v in ipairs({ code, off or '0', 0, 0 }) do got[#got + 1] = v end
  end
  if new > 0 then room(new, ARGV[6]) end
  outdated(l, now, ttl)
  if REMEMBERED then forget_ids(ARGV[3]) end
  local unread, unseen, by = badge()
  for j = 1, tonumber(ARGV[a + 1]) do got[4 * j + 1] = unread end
  local fresh = {}
  for i = 2, 11 do fresh[i - 1] = KEYS[BASE + i] end
  without_terms()
  live_together(l, now, lives, fresh, 11)
  if s > first then changed(KEYS[k + 11], KEYS[k + 12], member, now) end
  for _, p in ipairs(sent) do
    got[p.at] = call(ARGV[5], KEYS[k + 13], envelope(e, p.off, int(s), unread, unseen, by, p.change, p.names, p.body))
  end
  return got
end

while KEYS[k] do
  turn_to(k)
  answer(stream, ARGV[4])
  k, a = k + 15, a + 2 + fields * tonumber(ARGV[a + 1])
end
return replies
