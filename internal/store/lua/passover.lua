-- lib. Puts off what nobody can do now, so that it hides no others. KEYS 1 what is due in a partition
-- ARGV 1 for how many ms, members…
-- Answers how many are put off: those that are there, and not due later anyway.
local at, scored = int(now_ms() + tonumber(ARGV[1])), {}
for i = 2, #ARGV do scored[2 * i - 3], scored[2 * i - 2] = at, ARGV[i] end
return call('ZADD', KEYS[1], 'XX', 'GT', 'CH', unpack(scored))
