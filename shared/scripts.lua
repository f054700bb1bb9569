#!lua name=adaserve

-- The only code that changes a request's state (docs/protocol.md, scripts). Everything is a string: epochs and
-- digests are hex, because Lua's numbers are doubles and would round them.
--
-- Every function gets the cell's key prefix as ARGV[1] and derives from it the keys whose names stand only inside
-- the request's hash: the reply gateway's stream, the previous owner's set. Such keys cannot be declared by the
-- caller, nor are `abandoned` and the hour's usage, which only some rows of a commit touch; they are legal on a
-- cluster too, because the prefix carries the hash tag of the declared keys, so that all of them are in one slot.
--
-- Raise VERSION with every change, also of the parts that stand where a line names them (--@): a client loads its
-- library only where it finds none or an older one.

local VERSION = 15

local GROUP = 'verifiers'
local RETAIN_MS = 600000
local POISON_AT = 3
local TOKENS_MAXLEN = 10000
local CALIBRATION_TTL_S = 86400
local GONE_GATEWAY_MS = 30000
local MAX_OVERDUE = 64
local UNOWNED_EPOCH = '0'
local WINDOW = 8

local TERMINAL = { finished = true, cancelled = true, poisoned = true }

-- Redis' clock in milliseconds with microseconds as decimals, e.g. '1712345678901.234'.
local function now()
  local time = redis.call('TIME')
  local seconds, micros = tonumber(time[1]), tonumber(time[2])
  return string.format('%.0f.%03d', seconds * 1000 + math.floor(micros / 1000), micros % 1000)
end

-- Tells the reply gateway. NOMKSTREAM: a stream without a reader has no expiry and would stay for ever. pcall: a
-- failure here must not turn a commit into an error; the gateway sees the gap and attaches. False: the gateway named
-- in the hash has no stream, so it has been gone for long. Written out: to put a command together costs as much as to
-- run it, and this one runs for every row.
local function publish(prefix, gateway, body, traceparent, at)
  if not gateway or gateway == '' then return end
  local stream = prefix .. 'tokens:' .. gateway
  if not traceparent or traceparent == '' then
    return redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', TOKENS_MAXLEN, '*', 'body', body, 'sent_at', at,
      'committed_at', at)
  end
  return redis.pcall('XADD', stream, 'NOMKSTREAM', 'MAXLEN', '~', TOKENS_MAXLEN, '*', 'body', body, 'sent_at', at,
    'traceparent', traceparent, 'committed_at', at)
end

-- From now on nobody waits for this request: unless somebody attaches until then, it is to be cancelled.
local function abandon(abandoned, id, at, grace_ms)
  return redis.pcall('ZADD', abandoned, 'NX', string.format('%.3f', tonumber(at) + grace_ms), id)
end

-- Whether the connection with this number, held by this gateway, is still the one that the request is sent to.
local function is_attached(state_gateway, state_attachment, gateway, attachment)
  return state_gateway == gateway and (state_attachment or '1') == attachment
end

local function queue(stream, id, traceparent, at)
  if not traceparent or traceparent == '' then return redis.call('XADD', stream, '*', 'body', id, 'sent_at', at) end
  return redis.call('XADD', stream, '*', 'body', id, 'sent_at', at, 'traceparent', traceparent)
end

-- A tier's queue: a list of waiting requests by their start tags, and before it a short stream that verifiers read.
-- `tags` holds the virtual time and where each tenant's last request ends in it; `backlog` what stands in list and
-- stream together: tokens, and requests of each tenant.
local function tier_queue(prefix, tier)
  return { stream = prefix .. 'requests:' .. tier, waiting = prefix .. 'waiting:' .. tier,
    tags = prefix .. 'tags:' .. tier, backlog = prefix .. 'backlog:' .. tier }
end

local function exact(number) return string.format('%.17g', number) end

-- Entries that no verifier has read. Those that one has read and not claimed do not hold up others if it is dead. The
-- error where the group is missing means that nobody has read any.
local function num_unread(stream)
  local pending = redis.pcall('XPENDING', stream, GROUP)
  return redis.call('XLEN', stream) - (pending.err and 0 or pending[1])
end

-- Fills the stream from the list, lowest tag first; the tag of what left last is the virtual time. With the last one
-- waiting the busy period ends, and nobody owes anything any more.
local function promote(prefix, tier)
  local line = tier_queue(prefix, tier)
  if redis.call('EXISTS', line.waiting) == 1 then
    for _ = num_unread(line.stream) + 1, WINDOW do
      local id, tag = unpack(redis.call('ZPOPMIN', line.waiting))
      if not id then break end
      redis.call('HSET', line.tags, 'virtual', tag)
      local hash = prefix .. 'request:' .. id
      local entry = queue(line.stream, id, redis.call('HGET', hash, 'traceparent'), now())
      redis.call('HSET', hash, 'entry_id', entry)
    end
  end
  if redis.call('EXISTS', line.waiting) == 0 then redis.call('DEL', line.tags) end
end

-- Into its tier's list by start-time fair queueing (Goyal et al. 1996): a request starts where its tenant's last one
-- ends, or now, and takes its cost over the tenant's weight of virtual time.
local function wait(prefix, id, request)
  local line, tenant = tier_queue(prefix, request.tier), request.tenant
  local virtual, finish = unpack(redis.call('HMGET', line.tags, 'virtual', 'finish:' .. tenant))
  local start = math.max(tonumber(virtual or 0), tonumber(finish or 0))
  redis.call('HSET', line.tags, 'finish:' .. tenant, exact(start + request.cost / request.weight))
  redis.call('ZADD', line.waiting, exact(start), id)
  redis.call('HINCRBY', line.backlog, 'tokens', request.cost)
  redis.call('HINCRBY', line.backlog, 'requests:' .. tenant, 1)
  redis.call('HSET', prefix .. 'request:' .. id, 'stream', line.stream, 'entry_id', '')
  promote(prefix, request.tier)
end

-- Takes an entry out for good, and lets the next one of its tier follow. Only for entries whose request is claimed,
-- terminal or queued elsewhere.
local function discard(prefix, stream, entry)
  if not entry or entry == '' then return end
  redis.pcall('XACK', stream, GROUP, entry)
  redis.call('XDEL', stream, entry)
  local tier = string.match(stream, 'requests:(%d)$')
  if tier then promote(prefix, tier) end
end

local function length(line)
  return redis.call('XLEN', line.stream) + redis.call('ZCARD', line.waiting)
end

-- Takes a request out of where it waits: a tier's list or stream, or what was given back.
local function unqueue(prefix, id, state)
  if state.status ~= 'queued' then return end
  local line = tier_queue(prefix, state.tier)
  if state.entry_id == '' then
    redis.call('ZREM', line.waiting, id)
    promote(prefix, state.tier)
  else
    discard(prefix, state.stream, state.entry_id)
  end
  if state.stream ~= line.stream then return end
  redis.call('HINCRBY', line.backlog, 'tokens', -state.cost)
  local held = redis.call('HINCRBY', line.backlog, 'requests:' .. state.tenant, -1)
  if held <= 0 then redis.call('HDEL', line.backlog, 'requests:' .. state.tenant) end
  if length(line) == 0 then redis.call('DEL', line.backlog) end
end

-- One commit's tokens, with their log-probabilities where the request asks for them.
local function append(journal, stop, tokens, logprobs)
  if logprobs == '' then
    redis.call('XADD', journal, stop .. '-0', 'tokens', tokens)
  else
    redis.call('XADD', journal, stop .. '-0', 'tokens', tokens, 'logprobs', logprobs)
  end
end

local function warn(what, id, failure)
  local text = type(failure) == 'table' and failure.err or tostring(failure)
  redis.log(redis.LOG_WARNING, 'adaserve ' .. what .. ' of ' .. id .. ': ' .. text)
end

--@ usage.lua

-- A request has just become terminal, whichever way: it is counted, here and nowhere else, and goes in a while. A
-- failure to count must not undo the end.
local function retire(prefix, id, at)
  local hash, journal = prefix .. 'request:' .. id, prefix .. 'out:' .. id
  local ran, failure = pcall(account, prefix, id, hash, journal, at)
  if not ran then warn('usage', id, failure) end
  redis.call('PEXPIRE', hash, RETAIN_MS)
  redis.call('PEXPIRE', journal, RETAIN_MS)
end

-- Whether one more fits: into the queue, and into what a tenant may hold of it. The latter is `share` times the places
-- that are free (dynamic thresholds, Choudhury and Hahne 1998): so some always are, for those who hold nothing yet.
local function judge_room(line, tenant, limit, share)
  local free = limit - length(line)
  if free <= 0 then return 'FULL' end
  local held = tonumber(redis.call('HGET', line.backlog, 'requests:' .. tenant) or 0)
  return held < share * free and 'OK' or 'TENANT_FULL'
end

-- KEYS the tier's stream. ARGV prefix, tier, tenant, limit, share. Also tokens waiting in this tier and those above.
local function room(_, args)
  local prefix, tier = args[1], tonumber(args[2])
  local ahead = 0
  for above = 0, tier do
    ahead = ahead + tonumber(redis.call('HGET', tier_queue(prefix, above).backlog, 'tokens') or 0)
  end
  return { judge_room(tier_queue(prefix, tier), args[3], tonumber(args[4]), tonumber(args[5])), ahead }
end

-- Cost and weight are missing where an older library has enqueued the request.
local function read_hash(hash)
  local flat, state = redis.call('HGETALL', hash), { cost = '1', weight = '1' }
  for i = 1, #flat, 2 do state[flat[i]] = flat[i + 1] end
  return state
end

-- KEYS hash, queue stream. ARGV prefix, id, tier, tenant, limit, share, position, digest, then hash fields and values.
local function enqueue(keys, args)
  local hash, prefix, id, tier = keys[1], args[1], args[2], args[3]
  if redis.call('EXISTS', hash) == 1 then return 'EXISTS' end
  local verdict = judge_room(tier_queue(prefix, tier), args[4], tonumber(args[5]), tonumber(args[6]))
  if verdict ~= 'OK' then return verdict end
  redis.call('HSET', hash, 'status', 'queued', 'owner', '', 'epoch', UNOWNED_EPOCH, 'tier', tier,
    'position', args[7], 'prompt_tokens', args[7], 'digest', args[8], 'claimed_position', args[7],
    'crash_claims', '0', 'enqueued_ms', now(), unpack(args, 9))
  wait(prefix, id, read_hash(hash))
  return 'OK'
end

-- KEYS the tier's stream. ARGV prefix, tier. For entries that left the stream by another way than a script, such as
-- those that name no request: nobody has followed them.
local function refill(_, args)
  promote(args[1], args[2])
  return 'OK'
end

-- The crash claims this claim would make: one more when a dead owner made no progress since its own claim, none
-- after progress; a request that was given back, never claimed, or is the claimer's own adds nothing.
local function crash_claims(state, verifier)
  if tonumber(state.position) > tonumber(state.claimed_position) then return 0 end
  local count = tonumber(state.crash_claims)
  if state.owner ~= '' and state.owner ~= verifier then count = count + 1 end
  return count
end

local function claimed(status, state, crashes, journal, at, with_times)
  local reply = { status, state.body, state.position, state.digest, state.first_token_ms or '', tostring(crashes),
    state.gateway, state.traceparent, state.tenant, state.tier, state.seed, state.enqueued_ms, at,
    state.form or '', state.attachment or '1', state.cost, state.weight, state.budget_ms or '',
    redis.call('XRANGE', journal, '-', '+') }
  if with_times then reply[#reply + 1], reply[#reply + 2] = state.spent_ms or '', state.last_token_ms or '' end
  return reply
end

-- What an earlier owner did towards a first token that never came from it: that time lies between two claims.
local TOWARDS_FIRST = { 'compile_ms', 'admit_ms', 'prefill_ms', 'prefill_forward_ms', 'num_prefill_steps' }

-- What a claim notes for whoever asks later why a request was slow: when it was first taken, when last before its
-- first token, how often, how long it has lain idle since that token, and what its earlier owners have told.
local function note_claim(hash, state, at)
  local fields = { 'claims', tonumber(state.claims or 0) + 1 }
  local function note(name, value)
    fields[#fields + 1], fields[#fields + 2] = name, value
  end
  if not state.claimed_ms then note('claimed_ms', at) end
  if state.first_token_ms then
    local since = math.max(tonumber(state.last_token_ms or state.first_token_ms), tonumber(state.retaken_ms or 0))
    note('idle_ms', string.format('%.3f', tonumber(state.idle_ms or 0) + math.max(0, tonumber(at) - since)))
    note('retaken_ms', at)
  else
    note('taken_ms', at)
  end
  if state.stats and state.stats ~= '' then
    local stats = added(state.earlier_stats, state.stats)
    if not state.first_token_ms then
      for _, name in ipairs(TOWARDS_FIRST) do stats[name] = nil end
    end
    note('earlier_stats', cmsgpack.pack(stats))
    note('stats', '')
  end
  redis.call('HSET', hash, unpack(fields))
end

local function is_alive(prefix, verifier)
  return redis.call('EXISTS', prefix .. 'heartbeat:verifier:' .. verifier) == 1
end

-- Whether this claim may take the request, and if not, why not. A verifier may claim what it owns itself, under the
-- epoch in the hash: that is how it gets hold of a request when the reply to its claim was lost.
local function judge_claim(prefix, state, verifier, owner, epoch)
  if TERMINAL[state.status] then return state.status == 'finished' and 'FINISHED' or 'CANCELLED' end
  if state.owner ~= owner or state.epoch ~= epoch then return 'OWNED' end
  if owner ~= '' and owner ~= verifier and is_alive(prefix, owner) then return 'OWNED' end
  if crash_claims(state, verifier) >= POISON_AT then return 'POISON' end
  return 'OK'
end

-- Others find an owner by the set of verifiers. Whoever owns something is in it, even if it was taken for dead and out
-- of the set just now, and dies before its next heartbeat.
local function own(prefix, verifier, id)
  redis.call('SADD', prefix .. 'owned:' .. verifier, id)
  redis.call('SADD', prefix .. 'verifiers', verifier)
end

-- KEYS hash, journal, own set, queue stream. ARGV prefix, id, verifier, expected owner, expected epoch, new epoch,
-- entry id ('' when the request comes from a dead owner's set), and from a caller that takes it, what the reply has
-- at its end: the gateway's part of the time to the first token, and the last token's time.
local function claim(keys, args)
  local hash, journal, stream = keys[1], keys[2], keys[4]
  local prefix, id, verifier, owner, epoch, new_epoch, entry = unpack(args)
  local at, state = now(), read_hash(hash)
  if not state.epoch then
    discard(prefix, stream, entry)
    if owner ~= '' then redis.call('SREM', prefix .. 'owned:' .. owner, id) end
    return { 'MISSING' }
  end
  -- The reply to this very claim was lost: answer again, count nothing.
  if state.owner == verifier and state.epoch == new_epoch then
    return claimed('OK', state, state.crash_claims, journal, at, args[8])
  end
  local verdict = judge_claim(prefix, state, verifier, owner, epoch)
  if verdict == 'POISON' then
    return claimed('POISON', state, crash_claims(state, verifier), journal, at, args[8])
  end
  if verdict ~= 'OK' then
    -- The request is terminal, owned, or queued under another entry: this entry stands for no work.
    if entry ~= state.entry_id then discard(prefix, stream, entry) end
    if TERMINAL[state.status] and owner ~= '' then redis.call('SREM', prefix .. 'owned:' .. owner, id) end
    return { verdict }
  end
  local crashes = crash_claims(state, verifier)
  redis.call('HSET', hash, 'owner', verifier, 'epoch', new_epoch, 'status', 'running', 'entry_id', '',
    'claimed_position', state.position, 'crash_claims', crashes)
  note_claim(hash, state, at)
  -- In this order: the previous owner may be the new one.
  if owner ~= '' then redis.call('SREM', prefix .. 'owned:' .. owner, id) end
  own(prefix, verifier, id)
  unqueue(prefix, id, state)
  if state.entry_id ~= entry then discard(prefix, stream, entry) end
  return claimed('OK', state, crashes, journal, at, args[8])
end

-- Whether a caller that holds this epoch owns the request; the epoch of unowned requests belongs to nobody.
local function is_owner(epoch, held)
  return epoch == held and epoch ~= UNOWNED_EPOCH
end

-- The order of checks in docs/protocol.md. A position before the row's start is left to BEHIND, which comes last:
-- there Redis has forgotten a commit it once answered, and the digest says nothing about it.
local function judge_commit(row, epoch, position, digest, status)
  if not epoch then return 'MISSING' end
  local at_start = position == row.start and digest == row.start_digest
  local at_stop = position == row.stop and digest == row.stop_digest
  if not is_owner(epoch, row.epoch) then return 'FENCED' end
  local behind = tonumber(position) < tonumber(row.start)
  if not at_start and not at_stop and not behind then return 'FENCED' end
  -- A row without tokens starts where it stops; only its finish tells whether it was committed before.
  if at_stop and (row.start ~= row.stop or status == 'finished') then return 'SAME' end
  if TERMINAL[status] then return 'CANCELLED' end
  if behind then return 'BEHIND' end
  return 'OK'
end

local function commit_row(prefix, own, row, at)
  local state = redis.call('HMGET', row.hash, 'epoch', 'position', 'digest', 'status', 'gateway', 'traceparent',
    'first_token_ms')
  local verdict = judge_commit(row, state[1], state[2], state[3], state[4])
  if verdict ~= 'OK' then return verdict end
  -- The journal first: of all writes only this one can be refused, and nothing has changed yet then.
  if row.tokens ~= '' then append(row.journal, row.stop, row.tokens, row.logprobs) end
  local fields = { 'position', row.stop, 'digest', row.stop_digest }
  if row.tokens ~= '' then
    fields[5], fields[6] = 'last_token_ms', at
    if not state[7] then fields[7], fields[8] = 'first_token_ms', at end
  end
  if row.stats and row.stats ~= '' then fields[#fields + 1], fields[#fields + 2] = 'stats', row.stats end
  redis.call('HSET', row.hash, unpack(fields))
  if row.finish ~= '' then
    redis.call('HSET', row.hash, 'status', 'finished', 'finish', row.finish, 'terminal', row.event)
    redis.call('SREM', own, row.id)
    retire(prefix, row.id, at)
  end
  local reply = publish(prefix, state[5], row.event, state[6], at)
  if reply == false and row.finish == '' then abandon(prefix .. 'abandoned', row.id, at, GONE_GATEWAY_MS) end
  return 'OK'
end

local ROW_KEYS = 2

-- KEYS own set, then hash and journal of each row. ARGV prefix, then eleven columns of each row; ten from a caller of
-- a release that told no stats.
local function commit(keys, args)
  local at = now()
  local replies = { at }
  local num_rows = (#keys - 1) / ROW_KEYS
  local num_columns = (#args - 1) / num_rows
  for i = 0, num_rows - 1 do
    local k, a = 1 + i * ROW_KEYS, 1 + i * num_columns
    local row = { hash = keys[k + 1], journal = keys[k + 2], id = args[a + 1], epoch = args[a + 2],
      start = args[a + 3], start_digest = args[a + 4], stop = args[a + 5], stop_digest = args[a + 6],
      tokens = args[a + 7], event = args[a + 8], finish = args[a + 9], logprobs = args[a + 10],
      stats = num_columns > 10 and args[a + 11] }
    local ran, verdict = pcall(commit_row, args[1], keys[1], row, at)
    if not ran then
      warn('commit', row.id, verdict)
      verdict = 'ERROR'
    end
    replies[#replies + 1] = verdict
  end
  return replies
end

-- KEYS hash, own set, released stream. ARGV prefix, id, epoch, stats or nothing.
local function release(keys, args)
  local hash, own, released = keys[1], keys[2], keys[3]
  local id, epoch = args[2], args[3]
  local state = redis.call('HMGET', hash, 'epoch', 'status', 'traceparent')
  if not state[1] then return 'MISSING' end
  if TERMINAL[state[2]] then return 'TERMINAL' end
  if not is_owner(state[1], epoch) then return 'FENCED' end
  local entry = queue(released, id, state[3], now())
  redis.call('HSET', hash, 'owner', '', 'epoch', UNOWNED_EPOCH, 'status', 'queued', 'stream', released,
    'entry_id', entry)
  if args[4] and args[4] ~= '' then redis.call('HSET', hash, 'stats', args[4]) end
  redis.call('SREM', own, id)
  return 'OK'
end

-- KEYS hash, abandoned. ARGV prefix, id, gateway, attachment, grace in ms. The connection is closed and its client
-- may come back: commits go on, without an event for anybody.
local function leave(keys, args)
  local hash, abandoned = keys[1], keys[2]
  local prefix, id, gateway, attachment, grace_ms = unpack(args)
  local status, held_by, number = unpack(redis.call('HMGET', hash, 'status', 'gateway', 'attachment'))
  if not status then return 'MISSING' end
  if TERMINAL[status] then return 'TERMINAL' end
  if is_attached(held_by, number, '', attachment) then return 'OK' end  -- a lost reply
  if not is_attached(held_by, number, gateway, attachment) then return 'ATTACHED' end
  -- First what may be refused for want of memory.
  redis.call('ZADD', abandoned, string.format('%.3f', tonumber(now()) + tonumber(grace_ms)), id)
  redis.call('HSET', hash, 'gateway', '', 'attachment', attachment)
  return 'OK'
end

-- KEYS abandoned. ARGV prefix. Ids of requests whose grace is over by Redis' clock.
local function overdue(keys)
  return redis.call('ZRANGEBYSCORE', keys[1], '-inf', now(), 'LIMIT', 0, MAX_OVERDUE)
end

-- Whether a conditional cancel has come too late: somebody else waits for the request now.
local function is_awaited(abandoned, id, given, state_gateway, state_attachment, at)
  if given.gateway ~= '' and not is_attached(state_gateway, state_attachment, given.gateway, given.attachment) then
    return true
  end
  if given.only_overdue ~= '1' then return false end
  return tonumber(redis.call('ZSCORE', abandoned, id) or math.huge) > tonumber(at)
end

-- KEYS hash, journal, dead letters, abandoned. ARGV prefix, id, terminal status, event, reason for a dead letter or
-- '', gateway and attachment that it must still be sent to or '', '1' to cancel only what is overdue, finish or ''.
local function cancel(keys, args)
  local hash, dead, abandoned = keys[1], keys[3], keys[4]
  local prefix, id, status, event, reason = unpack(args, 1, 5)
  local given = { gateway = args[6], attachment = args[7], only_overdue = args[8] }
  local at = now()
  local state = read_hash(hash)
  local is_open = state.status and not TERMINAL[state.status]
  if is_open and is_awaited(abandoned, id, given, state.gateway, state.attachment, at) then return 'ATTACHED' end
  redis.call('ZREM', abandoned, id)
  if not state.status then return 'MISSING' end
  if TERMINAL[state.status] then return 'TERMINAL' end
  if reason ~= '' then
    redis.call('XADD', dead, '*', 'body', id, 'sent_at', at, 'reason', reason)
  end
  local finish = status == 'cancelled' and 'cancelled' or 'error'
  if args[9] and args[9] ~= '' then finish = args[9] end
  redis.call('HSET', hash, 'status', status, 'finish', finish, 'terminal', event, 'entry_id', '')
  unqueue(prefix, id, state)
  if state.owner ~= '' then redis.call('SREM', prefix .. 'owned:' .. state.owner, id) end
  publish(prefix, state.gateway, event, state.traceparent, at)
  retire(prefix, id, at)
  return 'OK'
end

-- KEYS hash, journal, abandoned. ARGV prefix, id, gateway, position, detached event, attachment.
--
-- The connection with the highest number has the request: one that comes later takes it from whichever had it, and
-- whoever asks again, or too late, changes nothing. A lower number in the hash than the keeper's means that Redis has
-- forgotten the later one.
local function attach(keys, args)
  local hash, journal, abandoned = keys[1], keys[2], keys[3]
  local prefix, id, gateway, position, detached, attachment = unpack(args)
  local state = redis.call('HMGET', hash, 'status', 'position', 'digest', 'first_token_ms', 'finish', 'terminal',
    'gateway', 'traceparent', 'attachment', 'enqueued_ms', 'last_token_ms')
  if not state[1] then return { 'MISSING' } end
  if not TERMINAL[state[1]] then
    local held, number = tonumber(state[9] or '1'), tonumber(attachment)
    if held > number or (held == number and state[7] ~= gateway) then return { 'DETACHED' } end
    redis.call('HSET', hash, 'gateway', gateway, 'attachment', attachment)
    redis.call('ZREM', abandoned, id)
    if state[7] ~= gateway then publish(prefix, state[7], detached, state[8], now()) end
  end
  return { state[1], state[2], state[3], state[4] or '', state[5] or '', state[6] or '', state[10], state[11] or '',
    redis.call('XRANGE', journal, '(' .. position .. '-0', '+') }
end

-- Whether the caller's chain has to replace what Redis holds, and if not, why not.
local function judge_reseed(state, journal, given)
  if TERMINAL[state.status] then return 'TERMINAL' end
  if given.owner ~= '' and (state.owner ~= given.owner or state.epoch ~= given.epoch) then return 'FENCED' end
  local here = tonumber(state.position)
  if here < tonumber(given.position) then return 'OK' end
  if here > tonumber(given.start) and redis.call('EXISTS', journal) == 0 then return 'OK' end
  if state.position == given.conflict_position and state.digest == given.conflict_digest then return 'OK' end
  return 'UNNEEDED'
end

-- One of the names and values from an argument on.
local function named(args, from, name)
  for i = from, #args, 2 do
    if args[i] == name then return args[i + 1] end
  end
end

-- KEYS hash, journal, released stream. ARGV prefix, id, owner ('' from a gateway), its epoch, new epoch, start (the
-- prompt's length), position, digest, tokens from start to position, first token's time or '', position and digest
-- of a chain in Redis that contradicts the caller's or '', log-probabilities of the tokens or '', tier, then hash
-- fields and values.
local function reseed(keys, args)
  local hash, journal, released = keys[1], keys[2], keys[3]
  local prefix, id, owner, new_epoch = args[1], args[2], args[3], args[5]
  local given = { owner = owner, epoch = args[4], start = args[6], position = args[7],
    conflict_position = args[11], conflict_digest = args[12] }
  local state, at = read_hash(hash), now()
  if state.epoch then
    if owner ~= '' and state.owner == owner and state.epoch == new_epoch then
      return { 'OK', state.position, state.digest }
    end
    local verdict = judge_reseed(state, journal, given)
    if verdict ~= 'OK' then return { verdict, state.position, state.digest } end
    if state.owner ~= owner and state.owner ~= '' then redis.call('SREM', prefix .. 'owned:' .. state.owner, id) end
  end
  redis.call('DEL', journal)
  if args[9] ~= '' then append(journal, args[7], args[9], args[13]) end
  if not state.epoch then
    -- Only here: what Redis still holds, such as the gateway of a later attach, is newer than the caller's copy. Who
    -- knows when the request was enqueued tells it among the fields, after this one.
    redis.call('HSET', hash, 'tier', args[14], 'prompt_tokens', args[6], 'enqueued_ms', at, unpack(args, 15))
  end
  redis.call('HSET', hash, 'owner', owner, 'position', args[7], 'digest', args[8], 'claimed_position', args[7],
    'crash_claims', '0')
  if args[10] ~= '' and not state.first_token_ms then redis.call('HSET', hash, 'first_token_ms', args[10]) end
  local last = named(args, 15, 'last_token_ms')
  if last and tonumber(last) > tonumber(state.last_token_ms or 0) then
    redis.call('HSET', hash, 'last_token_ms', last)
  end
  if owner ~= '' then
    redis.call('HSET', hash, 'epoch', new_epoch, 'status', 'running', 'entry_id', '')
    own(prefix, owner, id)
  else
    redis.call('HSET', hash, 'epoch', UNOWNED_EPOCH, 'status', 'queued')
    if state.status ~= 'queued' and args[7] == args[6] then
      wait(prefix, id, read_hash(hash))  -- nothing of it is known to a client: it waits among its like
    elseif state.status ~= 'queued' then
      local entry = queue(released, id, redis.call('HGET', hash, 'traceparent'), at)
      redis.call('HSET', hash, 'stream', released, 'entry_id', entry)
    end
  end
  return { 'OK', args[7], args[8] }
end

-- KEYS queue stream, heartbeat of the consumer. ARGV prefix, consumer. Deleting a consumer drops its pending entries:
-- so it must have none at this very moment, and be dead.
local function forget_consumer(keys, args)
  if redis.call('EXISTS', keys[2]) == 1 then return 'ALIVE' end
  if #redis.call('XPENDING', keys[1], GROUP, '-', '+', 1, args[2]) > 0 then return 'PENDING' end
  redis.call('XGROUP', 'DELCONSUMER', keys[1], GROUP, args[2])
  return 'OK'
end

-- KEYS set of verifiers, heartbeat and own set of one. ARGV prefix, verifier. In one step: it must be dead and own
-- nothing at this very moment.
local function forget_verifier(keys, args)
  if redis.call('EXISTS', keys[2]) == 1 then return 'ALIVE' end
  if redis.call('EXISTS', keys[3]) == 1 then return 'PENDING' end
  redis.call('SREM', keys[1], args[2])
  return 'OK'
end

-- Adds two buckets' counts, little-endian float32, the first half of which are labels. While they are more than the
-- cap, all are halved: what is old counts less. Counts of another layout are forgotten.
local function add_bucket(held, added, cap)
  local size = #added / 4
  local layout = '<' .. string.rep('f', size)
  local counts = { struct.unpack(layout, added) }
  if held and #held == #added then
    local before = { struct.unpack(layout, held) }
    for i = 1, size do counts[i] = counts[i] + before[i] end
  end
  local labels, factor = 0, 1
  for i = 1, size / 2 do labels = labels + counts[i] end
  while labels * factor > cap do factor = factor / 2 end
  for i = 1, size do counts[i] = counts[i] * factor end
  return struct.pack(layout, unpack(counts, 1, size))
end

-- KEYS label counts. ARGV prefix, cap, then bucket and packed counts of each bucket with new labels.
local function add_labels(keys, args)
  local cap = tonumber(args[2])
  for i = 3, #args, 2 do
    redis.call('HSET', keys[1], args[i], add_bucket(redis.call('HGET', keys[1], args[i]), args[i + 1], cap))
  end
  redis.call('EXPIRE', keys[1], CALIBRATION_TTL_S)
  return 'OK'
end

-- KEYS running. ARGV prefix, lease in ms, limit ('' for none), requests: all of them or none. Those counted already
-- have their leases renewed. Leases end by Redis' clock, so a dead gateway's requests do not count for ever.
local function hold(keys, args)
  local at, lease_ms, limit = tonumber(now()), tonumber(args[2]), tonumber(args[3])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', string.format('%.0f', at))
  local running, added = redis.call('ZCARD', keys[1]), 0
  for i = 4, #args do
    if not redis.call('ZSCORE', keys[1], args[i]) then added = added + 1 end
  end
  if limit and added > 0 and running + added > limit then return { 'FULL', running } end
  for i = 4, #args do
    redis.call('ZADD', keys[1], string.format('%.0f', at + lease_ms), args[i])
  end
  redis.call('PEXPIRE', keys[1], lease_ms)
  return { 'OK', running + added }
end

-- KEYS running. ARGV prefix, requests that have ended.
local function let_go(keys, args)
  for i = 2, #args do redis.call('ZREM', keys[1], args[i]) end
  return 'OK'
end

-- KEYS inspected. ARGV prefix, limit, life in s, tenant, requests. Makes the streams that their iterations are told in;
-- whoever tells makes none. So there are never more of them than `limit`: the oldest goes of the tenant that has most.
local function open_inspected(keys, args)
  local prefix, limit, life_s, tenant = args[1], tonumber(args[2]), args[3], args[4]
  local function stream_of(member) return prefix .. 'inspect:' .. string.match(member, '^[^:]*') end
  for i = 5, #args do
    local member = args[i] .. ':' .. tenant
    redis.call('ZADD', keys[1], 'NX', now(), member)
    if redis.call('EXISTS', stream_of(member)) == 0 then
      redis.call('XADD', stream_of(member), 'MAXLEN', 0, '*', 'opened', '')
      redis.call('EXPIRE', stream_of(member), life_s)
    end
  end
  local kept, count = {}, {}
  for _, member in ipairs(redis.call('ZRANGE', keys[1], 0, -1)) do
    if redis.call('EXISTS', stream_of(member)) == 1 then
      local owner = string.match(member, ':(.*)$')
      kept[#kept + 1] = { member = member, owner = owner }
      count[owner] = (count[owner] or 0) + 1
    else
      redis.call('ZREM', keys[1], member)
    end
  end
  while #kept > limit do
    local oldest = 1
    for place, one in ipairs(kept) do
      if count[one.owner] > count[kept[oldest].owner] then oldest = place end
    end
    local gone = table.remove(kept, oldest)
    count[gone.owner] = count[gone.owner] - 1
    redis.call('UNLINK', stream_of(gone.member))
    redis.call('ZREM', keys[1], gone.member)
  end
  return 'OK'
end

-- KEYS api keys, version. ARGV prefix, the version that the caller knows. Nil where that is the present one, else the
-- present one ('' for none) and all records.
local function read_keys(keys, args)
  local version = redis.call('GET', keys[2]) or ''
  if version == args[2] and version ~= '' then return false end
  return { version, redis.call('HGETALL', keys[1]) }
end

-- KEYS api keys, version. ARGV prefix, new version, then id, record and record that it replaces ('' for none) of each
-- key. Ids that another record stands under by now are returned, and nothing is changed under them.
local function write_keys(keys, args)
  local refused, changed = {}, false
  for i = 3, #args, 3 do
    local present = redis.call('HGET', keys[1], args[i]) or ''
    if present == args[i + 2] then
      redis.call('HSET', keys[1], args[i], args[i + 1])
      changed = true
    elseif present ~= args[i + 1] then -- the same: the reply to the first try was lost
      refused[#refused + 1] = args[i]
    end
  end
  if changed then redis.call('SET', keys[2], args[2]) end
  return refused
end

redis.register_function { function_name = 'adaserve_version', callback = function() return VERSION end,
  flags = { 'no-writes' } }
redis.register_function { function_name = 'adaserve_room', callback = room, flags = { 'no-writes' } }
redis.register_function('adaserve_enqueue', enqueue)
redis.register_function('adaserve_refill', refill)
redis.register_function('adaserve_claim', claim)
redis.register_function('adaserve_commit', commit)
redis.register_function('adaserve_release', release)
-- A cancel must work when memory is full: it is what frees some.
redis.register_function { function_name = 'adaserve_cancel', callback = cancel, flags = { 'allow-oom' } }
redis.register_function('adaserve_leave', leave)
redis.register_function { function_name = 'adaserve_overdue', callback = overdue, flags = { 'no-writes' } }
redis.register_function('adaserve_attach', attach)
redis.register_function('adaserve_reseed', reseed)
redis.register_function('adaserve_forget_consumer', forget_consumer)
redis.register_function('adaserve_forget_verifier', forget_verifier)
redis.register_function('adaserve_add_labels', add_labels)
redis.register_function('adaserve_hold', hold)
redis.register_function { function_name = 'adaserve_let_go', callback = let_go, flags = { 'allow-oom' } }
redis.register_function('adaserve_open_inspected', open_inspected)
redis.register_function { function_name = 'adaserve_read_keys', callback = read_keys, flags = { 'no-writes' } }
redis.register_function('adaserve_write_keys', write_keys)
