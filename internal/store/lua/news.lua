-- Stands behind inbox.lua and events.lua in mark.lua: what backends are told of a mark. KEYS 16 events, 17 their meta.

-- Which of these items are news, seen and read ones, asked before the sets change: nil where nobody listens. What is read or archived was seen.
local function news_of(change, which)
  if #which == 0 or not (change == 's' or change == 'r' or change == 'a') or not listened(KEYS[17]) then return end
  local seen = {}
  for i, at in ipairs(call('ZMSCORE', UNSEEN, unpack(which))) do
    if at then seen[#seen + 1] = which[i] end
  end
  return seen, change == 'r' and which or {}
end

-- Tells it, at most 500 ids each, of the user that the change member names.
local function tell_news(member, now, seen, read, body)
  local user = string.match(member, '^[^:]*:i:(.*)$')
  for _, one in ipairs({ { 's', seen or {} }, { 'r', read or {} } }) do
    if #one[2] > 0 then tell(KEYS[16], KEYS[17], now, one[1], user, table.concat(one[2], ','), body) end
  end
end
