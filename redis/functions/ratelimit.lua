#!lua name=ratelimit

-- Rate limiting by the generic cell rate algorithm (GCRA, ITU-T I.371).
--
--   FCALL rate_limit 1 KEY BURST COUNT PERIOD_SECONDS [COST]
--
-- allows BURST requests at once and COUNT requests per PERIOD_SECONDS in the long run; one call takes COST of them
-- (default 1). Returns for how many milliseconds the caller has to wait: 0 if it may go on. A refused call takes nothing.
-- One number, because a list costs the server and the client as much as the rest of the function.
--
-- The state is the key's time to live: how long the limit takes to be whole again. So the time is the server's, and the
-- key is gone when there is nothing to remember. Numbers are whole parts of a millisecond, COUNT to each, so that no
-- rate is rounded; by how many of them a time to live in milliseconds is too long is the key's value.

-- The longest time to live that redis/keyspaces.yml declares for rl: keys.
local LONGEST_SECONDS = 86400
-- Any product below stays under 2^53, where Lua's numbers are exact.
local LARGEST = 99999999

local function positive(text)
  local number = tonumber(text)
  if number and number >= 1 and number <= LARGEST and number % 1 == 0 then
    return number
  end
end

local function rate_limit(keys, args)
  local key = keys[1]
  local burst, count, period, cost = positive(args[1]), positive(args[2]), positive(args[3]), positive(args[4] or 1)
  if #keys ~= 1 or #args > 4 or not (burst and count and period and cost) then
    return redis.error_reply('ERR rate_limit takes one key, then BURST COUNT PERIOD_SECONDS [COST], positive integers')
  end
  local one = period * 1000
  local whole = one * burst
  if cost > burst then
    return redis.error_reply('ERR rate_limit: COST is more than BURST, so no call can ever be allowed')
  end
  if whole > LONGEST_SECONDS * 1000 * count then
    return redis.error_reply('ERR rate_limit: BURST takes longer than ' .. LONGEST_SECONDS .. ' s to be whole again')
  end

  local rounds = one % count > 0
  local used = redis.call('PTTL', key) * count
  if rounds and used > 0 then
    used = used - (tonumber(redis.call('GET', key)) or 0)
  end
  -- The upper bound heals a key that lives longer because the server's clock was set back.
  if used < 0 then
    used = 0
  elseif used > whole then
    used = whole
  end
  local after = used + one * cost

  if after > whole then
    return math.ceil((after - whole) / count)
  end
  local lives = math.ceil(after / count)
  if rounds or used == 0 then
    redis.call('SET', key, lives * count - after, 'PX', lives)
  else
    redis.call('PEXPIRE', key, lives)
  end
  return 0
end

redis.register_function('rate_limit', rate_limit)
