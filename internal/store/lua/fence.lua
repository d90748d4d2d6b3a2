-- Stands behind lib.lua in the scripts that change what is there: one that comes about late must not undo what came after it.

-- The meta keeps the last change of each of the eight programs that made one here last: '<program>:<number>:<changed>:<epoch>:<offset>:<us>:<more> …'. A program
-- makes one of a stream after the other and counts them. So one with the number that is kept was made, by an attempt whose answer nobody heard, or
-- comes once more: it is answered again. One with a smaller number comes when its program has gone on: nothing is done.
local programs = {}

-- Answers nil where it is to be made, 'late', or what was kept: changed, epoch, offset, us, more.
local function made_before(kept, program, number)
  local last
  for one in string.gmatch(kept or '', '%S+') do
    if string.match(one, '^[^:]+') == program then last = one elseif #programs < 7 then programs[#programs + 1] = one end
  end
  local n, changed, epoch, off, at, more = string.match(last or '', ':(%d+):(%d+):(%w+):(%d+):(%d+):(%d*)$')
  if not n or tonumber(n) < tonumber(number) then return end
  if n ~= number then return 'late' end
  return tonumber(changed), epoch, off, tonumber(at), more
end

local function made(program, number, changed, e, s, us, more)
  table.insert(programs, 1, table.concat({ program, number, changed, e, int(s), int(us), more }, ':'))
  call('HSET', META, 'm', table.concat(programs, ' '))
end
