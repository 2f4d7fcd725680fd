#!lua name=ratelimit

-- Rate limiting by the generic cell rate algorithm (GCRA, ITU-T I.371): one key holds the theoretical arrival time
-- (TAT) of the next request, in microseconds since the epoch, and expires when the limit is whole again.
--
--   FCALL rate_limit 1 KEY BURST COUNT PERIOD_SECONDS [COST]
--
-- allows BURST requests at once and COUNT requests per PERIOD_SECONDS in the long run; one call takes COST of them
-- (default 1). Returns {allowed 0|1, remaining, retry_after_milliseconds, reset_after_milliseconds}; a refused call
-- takes nothing. The time is the server's, so clients' clocks do not matter.

-- The longest time to live that redis/keyspaces.yml declares for rl: keys.
local LONGEST_SECONDS = 86400

local function positive(text)
  if text and #text <= 9 and string.match(text, '^[1-9]%d*$') then
    return tonumber(text)
  end
end

local function rate_limit(keys, args)
  local burst, count, period, cost = positive(args[1]), positive(args[2]), positive(args[3]), positive(args[4] or '1')
  if #keys ~= 1 or #args < 3 or #args > 4 or not (burst and count and period and cost) then
    return redis.error_reply('ERR rate_limit takes one key, then BURST COUNT PERIOD_SECONDS [COST], positive integers')
  end
  local interval = math.ceil(period * 1000000 / count)
  if cost > burst then
    return redis.error_reply('ERR rate_limit: COST is more than BURST, so no call can ever be allowed')
  end
  if interval * burst > LONGEST_SECONDS * 1000000 then
    return redis.error_reply('ERR rate_limit: BURST takes longer than ' .. LONGEST_SECONDS .. ' s to be whole again')
  end

  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local tolerance = interval * burst
  local arrival = tonumber(redis.call('GET', keys[1]) or now)
  -- The upper bound heals a key written before the server's clock was set back.
  arrival = math.min(math.max(arrival, now), now + tolerance)
  local next_arrival = arrival + interval * cost
  local early = next_arrival - tolerance - now

  if early > 0 then
    local remaining = math.floor((now + tolerance - arrival) / interval)
    return {0, remaining, math.ceil(early / 1000), math.ceil((arrival - now) / 1000)}
  end
  local reset = math.ceil((next_arrival - now) / 1000)
  redis.call('SET', keys[1], string.format('%.0f', next_arrival), 'PX', reset)
  return {1, math.floor((now + tolerance - next_arrival) / interval), 0, reset}
end

redis.register_function('rate_limit', rate_limit)
