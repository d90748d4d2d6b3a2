-- Stands behind lib.lua and items.lua in the scripts of a segment, in the place of inbox.lua: nobody has read anything, and nothing is counted.

-- no index: no segment; what is left of its items goes, what waits for its time does not
leftovers = function()
  local top = call('ZREVRANGE', INDEX, 0, 0, 'WITHSCORES')
  if #top > 0 then return tonumber(top[2]) end
  call('DEL', ITEMS)
  return 0
end

-- who cannot go on lists it anew, as an inbox
counts = function() return 0, 0, '' end
