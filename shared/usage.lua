-- What ended requests add to the usage of their tenants, and what is told of a request by its owners: a part of the
-- library, which stands in scripts.lua where that names this file (shared/functions.py).

local USAGE_TTL_S = 90 * 86400

-- The hour of a time in UTC, `yyyymmddhh`: days to a date by Howard Hinnant's algorithm, as Lua here has no os.date.
local function hour_of(at_ms)
  local floor = math.floor
  local hours = floor(at_ms / 3600000)
  local days = floor(hours / 24) + 719468
  local era = floor(days / 146097)
  local of_era = days - era * 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local from_march = floor((5 * of_year + 2) / 153)
  local day = of_year - floor((153 * from_march + 2) / 5) + 1
  local month = from_march < 10 and from_march + 3 or from_march - 9
  if month <= 2 then year = year + 1 end
  return string.format('%04d%02d%02d%02d', year + era * 400, month, day, hours % 24)
end

-- What an owner has told of its work; what cannot be read counts as nothing.
local function unpacked(packed)
  if not packed or packed == '' then return {} end
  local ran, stats = pcall(cmsgpack.unpack, packed)
  return ran and type(stats) == 'table' and stats or {}
end

-- The figures of a request's owners together. How long it waited, and what of the prompt was cached, the first knows.
local ONLY_OF_THE_FIRST = { queue_ms = true, num_cached_tokens = true }
local function added(earlier, later)
  local sum = unpacked(earlier)
  for name, value in pairs(unpacked(later)) do
    if not (sum[name] and ONLY_OF_THE_FIRST[name]) and type(value) == 'number' then
      sum[name] = (sum[name] or 0) + value
    end
  end
  return sum
end

-- Where the prompt ends. The journal tells it of a request that an older library has enqueued.
local function prompt_length(state, journal)
  if state.prompt_tokens then return tonumber(state.prompt_tokens) end
  local first = redis.call('XRANGE', journal, '-', '+', 'COUNT', 1)[1]
  return first and tonumber(string.match(first[1], '^%d+')) - #first[2][2] / 4 or tonumber(state.position)
end

-- Whether a request has kept its targets, as its gateway judges it, but for the way of the first token to the client.
-- Nil where it has none, where its client has left, and where nobody knows: a first token from before the queue entry
-- means that Redis had forgotten when that was.
local function attained(state, num_output)
  local tpot, ttft = tonumber(state.tpot_ms or ''), tonumber(state.ttft_ms or '')
  if not (tpot or ttft) or state.finish == 'cancelled' then return nil end
  if state.finish ~= 'stop' and state.finish ~= 'length' then return false end
  local first, enqueued = tonumber(state.first_token_ms or ''), tonumber(state.enqueued_ms or '')
  if ttft and not first then return false end
  if tpot and num_output > 1 then
    local last = tonumber(state.last_token_ms or '') or first
    if (last - first) / (num_output - 1) > tpot then return false end
  end
  if not ttft then return true end
  if not enqueued or first < enqueued then return nil end
  return first - enqueued + (tonumber(state.spent_ms or '') or 0) <= ttft
end

-- Adds to what a tenant and class have used in this hour: the numbers of shared/usage.py, in its order.
local function add_usage(prefix, at, who, counts)
  local key, sums = prefix .. 'usage:' .. hour_of(tonumber(at)), {}
  for number in string.gmatch(redis.call('HGET', key, who) or '', '%S+') do sums[#sums + 1] = number end
  for i, count in ipairs(counts) do sums[i] = string.format('%.0f', tonumber(sums[i] or 0) + count) end
  redis.call('HSET', key, who, table.concat(sums, ' '))
  redis.call('EXPIRE', key, USAGE_TTL_S)
end

local ACCOUNTED = { 'tenant', 'slo_class', 'prompt_tokens', 'position', 'finish', 'tpot_ms', 'ttft_ms', 'spent_ms',
  'enqueued_ms', 'first_token_ms', 'last_token_ms', 'stats', 'earlier_stats', 'form' }

-- Whether the prompt is to be counted here: of several choices, which share it, with the first alone.
local function has_prompt(state)
  return (tonumber(unpacked(state.form).index) or 0) == 0
end


local function account(prefix, id, hash, journal, at)
  local values, state = redis.call('HMGET', hash, unpack(ACCOUNTED)), {}
  for i, name in ipairs(ACCOUNTED) do state[name] = values[i] or nil end
  local stats, prompt = added(state.earlier_stats, state.stats), prompt_length(state, journal)
  local num_output = tonumber(state.position) - prompt
  local judged, met = pcall(attained, state, num_output)
  if not judged then
    warn('verdict', id, met)
    met = nil
  end
  local counted = has_prompt(state) and prompt or 0
  -- Each step is a commit of its own in the journal, of whichever owner; after a reseed only the owner knows.
  local num_steps = math.max(redis.call('XLEN', journal), stats.num_steps or 0)
  add_usage(prefix, at, (state.tenant or '') .. ':' .. (state.slo_class or ''), { 1, counted,
    math.min(counted, stats.num_cached_tokens or 0), num_output, stats.num_draft_tokens or 0,
    stats.num_accepted_draft_tokens or 0, num_steps, met and 1 or 0, met == false and 1 or 0 })
end
