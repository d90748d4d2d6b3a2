-- Stands behind lib.lua in the scripts of a user's stream and of a segment: what items are. Whose they are, and who has read them, is inbox.lua's.
local BASE = 0 -- keys in front of the stream's
local INDEX, ITEMS = KEYS[4], KEYS[5]

-- Terms are what is to be done with items besides keeping and showing them: deadlines and collapse keys, and with them muted categories. A stream that has, or lately
-- had, any says so in its meta ('o'). Where it does not, these are not looked at, and may be other keys.
local TERMS
local DEADLINES, COLLAPSE = KEYS[10], KEYS[11]

-- An item is two fields: its id with the head, <flags>\n<category>\n<expires ms>\n<collapse key>, and behind a zero byte the body,
-- so that nobody reads a body who wants a category. The first change adds a line to the head: <epoch>.<offset>.<Redis' us> of the last read or
-- unread, a space, the same of the last archive or unarchive, and, behind one more, of the last update. An update's body is a field of its own, and so is an escalation.
local function body_of(id) return id .. '\0' end

local function category_of(head) return string.match(head or '', '^[^\n]*\n([^\n]*)\n') or '' end

local function collapse_of(head) return string.match(head or '', '^[^\n]*\n[^\n]*\n[^\n]*\n([^\n]+)') end

-- The ids of items whose time is over and that are still there: they do not count, and are not listed.
local hidden = {}

-- Who has read what: of a user's stream inbox.lua sets these, a segment knows nobody.
local raise  -- a new item: id, offset, category
local unmark -- items that go: ids
local state  -- where those keys begin: the number of the stream's first

-- the stream whose keys begin at this one
local function turn_to(k)
  META, EVENTS, DEDUPE, BASE = KEYS[k], KEYS[k + 1], KEYS[k + 2], k - 1
  INDEX, ITEMS, DEADLINES, COLLAPSE = KEYS[k + 3], KEYS[k + 4], KEYS[k + 9], KEYS[k + 10]
  if state then state(k) end
  TERMS, hidden = nil, {}
end

-- A collapse key is known by 'k\0<key>', the id of its last item, when that was acknowledged first, and its chain, as long as that id is: also where the item is gone.
-- A chain is the items that took each other's place, named by the first id. Ids of former items are 'l\0<id>', their chain and key.
local function last_of(key)
  return string.match(call('HGET', COLLAPSE, 'k\0' .. key) or '', '^(%S+) (%w+)%.(%d+)%.(%d+) (%S+)$')
end

local function chain_of(alias) return string.match(alias or '', '^(%S+) (.*)$') end

-- What took the place of a former item, as far as it is known. What came with its collapse key when it, or its successor, had left is something else.
local function successor(id)
  local chain, key = chain_of(TERMS and call('HGET', COLLAPSE, 'l\0' .. id) or '')
  if not chain then return end
  local last, _, _, _, same = last_of(key)
  return chain == same and last or nil
end

-- The item that an id means, and its offset: itself, or its successor. nil where there is none.
local function current(id)
  local off = call('ZSCORE', INDEX, id)
  if not off then
    id = successor(id)
    off = id and call('ZSCORE', INDEX, id)
  end
  return off and id or nil, off
end

-- The ids of items whose time is over, in order, 500 at most: of more than that counts are right when those that do what is due have taken the rest away. They are
-- hidden by who reads, and taken away by who writes (keep.lua).
local function expired(now)
  local out = {}
  for _, member in ipairs(TERMS and call('ZRANGEBYSCORE', DEADLINES, '-inf', int(now), 'LIMIT', '0', '500') or {}) do
    if string.sub(member, 1, 2) == 'x\0' then out[#out + 1] = string.sub(member, 3) end
  end
  return out
end

-- What waits for its time is 's\0<id>', <head>\0<escalation>\0<body>, and its collapse key 'p\0<key>', the ids of those that wait. Takes it out, and
-- answers it.
local function unschedule(id)
  local kept = call('HGET', COLLAPSE, 's\0' .. id)
  if not kept then return end
  local head = string.sub(kept, 1, string.find(kept, '\0', 1, true) - 1)
  local key = collapse_of(head)
  call('ZREM', DEADLINES, 's\0' .. id)
  call('HDEL', COLLAPSE, 's\0' .. id)
  local rest = {}
  for one in string.gmatch(key and call('HGET', COLLAPSE, 'p\0' .. key) or '', '[^,]+') do
    if one ~= id then rest[#rest + 1] = one end
  end
  if #rest > 0 then
    call('HSET', COLLAPSE, 'p\0' .. key, table.concat(rest, ','))
  elseif key then
    call('HDEL', COLLAPSE, 'p\0' .. key)
  end
  return kept, head
end

-- Was something changed, at a position that it remembers, after what is made again was acknowledged first? Offsets tell it within an epoch. Between two, of which
-- Redis may have forgotten either, its clock does; but whatever belongs to the current one, e, came after everything that was lost.
local function later(e, epoch, off, us, first_epoch, first_off, first_us)
  if not epoch then return false end
  if epoch == first_epoch then return tonumber(off) > tonumber(first_off) end
  return epoch == e or tonumber(us) > tonumber(first_us)
end
