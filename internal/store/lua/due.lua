-- lib, write, many, items, inbox, keep, deliver. Does what is due of a stream: what has expired goes, what waited for its time comes, and what nobody looked at is
-- claimed, so that this program tells somebody. KEYS as notice.lua, of one stream
-- ARGV 1 new epoch, 2 events kept, 3 ids kept, 4 retention ms, 5 PUBLISH or SPUBLISH, 6 items kept, 7 change member, 8 claims at most, 9 how long one is held, ms,
--      10 the claimer, another one each time, 11 ms after which what finds no place among the claims is due again, 0: it stays so
-- Answers {what expired, what came, letters of those that need no claim any more, 1 where more is due, the epoch, how many claims found no place and are put off,
-- id, how it is told, attempt, since when it is due in ms, subscriptions that are done, offset, seen, read, head, body, body of its last update or '', …}. It does 50 of
-- each at most, and 250 of what has expired where there is more than 500 of that.
local due, member, ttl = KEYS[15], ARGV[7], tonumber(ARGV[4])
if call('EXISTS', META) == 0 then
  call('ZREM', due, member)
  return { 0, 0, '', 0, '', 0 }
end
local e, s, l, terms = position(ARGV[1], now)
TERMS = terms
local first, sent, needless, claims, put_off = s, {}, '', {}, 0
s = expire(e, s, now, ARGV[2], ARGV[5], KEYS[14])
local gone, mute = s - first, TERMS and call('HGET', META, 'f')

-- Puts what waited into the stream, where nothing speaks against it now.
local function put(id, kept)
  local head = string.sub(kept, 1, string.find(kept, '\0', 1, true) - 1)
  local zero = string.find(kept, '\0', #head + 2, true)
  local n = { id = id, head = head, escalate = string.sub(kept, #head + 2, zero - 1), body = string.sub(kept, zero + 1) }
  if call('ZSCORE', DEDUPE, id) or call('ZSCORE', INDEX, id) or refused(n, mute, s) then return end
  local names, place = deliver(e, s, n, ARGV[2], due, member)
  if not names then return end
  s = s + 1
  call('HSET', META, 's', int(s))
  sent[#sent + 1] = { off = place, names = names, body = n.body }
end

-- What waited is taken out behind that: where the stream takes no more, as with full memory, it waits on.
local function come(id)
  local kept = call('HGET', COLLAPSE, 's\0' .. id)
  if kept then put(id, kept) end
  if not unschedule(id) then call('ZREM', DEADLINES, 's\0' .. id) end
end

-- Claims an escalation for a while, or ends it where a device has shown the item. It is kept as '<S|R><W|P> <attempts that ended> <claimer> <since ms> <subscriptions, …>':
-- a claim whose answer was lost, or whose program died, uses up none (done.lua counts).
local function claim(id, deadline)
  local how, attempt, _, since, done = string.match(call('HGET', ITEMS, id .. '\0w') or '', '^(%u%u) (%d+) ?(%S*) ?(%d*) ?(.*)$')
  local place = call('ZSCORE', INDEX, id)
  for _, one in ipairs(hidden) do place = one ~= id and place end -- it has expired
  local waits = how and place and not call('ZSCORE', ARCHIVED, id) and call('ZSCORE', string.sub(how, 1, 1) == 'S' and UNSEEN or UNREAD, id)
  if not waits then
    needless = needless .. (how and string.sub(how, 2) or '')
    call('ZREM', DEADLINES, 'w\0' .. id)
    call('HDEL', ITEMS, id .. '\0w')
    return
  end
  if #claims >= tonumber(ARGV[8]) then -- later, so that it hides nothing that is due
    if ARGV[11] == '0' then return end
    call('ZADD', DEADLINES, int(now + ARGV[11]), 'w\0' .. id)
    if since == '' then call('HSET', ITEMS, id .. '\0w', table.concat({ how, attempt, '-', deadline, done }, ' ')) end
    put_off = put_off + 1
    return
  end
  since = since ~= '' and since or deadline
  call('ZADD', DEADLINES, int(now + tonumber(ARGV[9])), 'w\0' .. id)
  call('HSET', ITEMS, id .. '\0w', table.concat({ how, attempt, ARGV[10], since, done }, ' '))
  claims[#claims + 1] = { id, how, int(tonumber(attempt) + 1), since, done, place, call('ZSCORE', UNSEEN, id) and 0 or 1, call('ZSCORE', UNREAD, id) and 0 or 1 }
end

local found, came = TERMS and call('ZRANGEBYSCORE', DEADLINES, '-inf', int(now), 'WITHSCORES', 'LIMIT', '0', '1000') or {}, 0
local looked = 0 -- for what may be told: what there is no room for does not stand in front of the others
for i = 1, #found, 2 do
  local what, id = string.sub(found[i], 1, 2), string.sub(found[i], 3)
  if what == 's\0' and came < 50 then
    came = came + 1
    come(id)
  elseif what == 'w\0' and looked < 100 then
    looked = looked + 1
    claim(id, int(found[i + 1]))
  end
end
if #sent > 0 then room(#sent, ARGV[6]) end
if REMEMBERED then forget_ids(ARGV[3]) end
local unread, unseen, by = badge()
local next = call('ZRANGEBYSCORE', DEADLINES, '-inf', '+inf', 'WITHSCORES', 'LIMIT', '0', '1')[2]
if next then call('ZADD', due, next, member) else call('ZREM', due, member) end
local fresh = {}
for i = 2, 11 do fresh[i - 1] = KEYS[i] end
without_terms()
live_together(l, now, ttl, fresh, 11)
if s > first then changed(KEYS[12], KEYS[13], member, now) end
for _, p in ipairs(sent) do call(ARGV[5], KEYS[14], envelope(e, p.off, int(s), unread, unseen, by, 'n', p.names, p.body)) end
local out = { gone, #sent, needless, next and tonumber(next) <= now and 1 or 0, e, put_off }
for _, c in ipairs(claims) do
  for _, v in ipairs(c) do out[#out + 1] = v end
  for _, v in ipairs(call('HMGET', ITEMS, c[1], body_of(c[1]), c[1] .. '\0u')) do out[#out + 1] = v or '' end
end
return out
