-- One attempt of a throttle, in one step. The limits are those of the built-in throttle of
-- package oauth2pw.
--
-- state is a hash: the seed of all digests, the last reading of the clock, and the time, which
-- never goes back and is different for each counted attempt. account, place, network and home are
-- lists of the times of attempts: of an account from all places that are not known to it, of such
-- a place, of its /48, and of a place from which accounts are known. known is a sorted set: the
-- places of an account, by the time of their last success.
--
-- pair is about an account at a place, packed:
--   home, away   { times, guesses, repeats, right } of attempts from the place while it is known,
--                and otherwise; other for pairs that share the key
--   open         attempts that are not settled, of the last ten minutes: a request does not last
--                longer. A failed attempt is never settled. The latest 200, because each call
--                reads them
--   who          the pair that has the key, where pairs share keys
--   calls        the last calls, which may be sent twice
local state, pair, known, account, place, network, home = unpack(KEYS)
local call, seed, clock, limit, window, nonce, kind, who, at, net, shared, right, tag = unpack(ARGV)
limit, window, shared, right = tonumber(limit), tonumber(window), shared == '1', right == '1'
local placed, networked = at ~= '', net ~= ''
local grant, client = kind == 'grant', kind == 'client'
local day = 24 * 3600 * 1000000
local kept, mostOpen, mostCalls = math.min(4 * window, 600 * 1000000), 200, 4

local s = redis.call('HMGET', state, 'seed', 'clock', 'time')
if s[1] and s[1] ~= seed then return { 1, s[1] } end
if clock == '' then
	local t = redis.call('TIME')
	clock = t[1] * 1000000 + t[2]
else
	clock = tonumber(clock)
end
local now = clock
local function keep(time)
	redis.call('HSET', state, 'seed', seed, 'clock', clock, 'time', time)
end
if s[3] then
	local step = clock - tonumber(s[2])
	now = tonumber(s[3]) + math.max(0, math.min(step, 60 * day))
	if step < 0 then keep(now) end -- the clock was set back: the next step forward counts from there
end

-- Lists of times in Redis.

local function add(key, span)
	redis.call('RPUSH', key, now)
	redis.call('PEXPIRE', key, math.ceil(span / 1000))
end

local function wait(key, most, span)
	local n = redis.call('LLEN', key)
	while n >= most and n > 0 and tonumber(redis.call('LINDEX', key, 0)) <= now - span do
		redis.call('LPOP', key)
		n = n - 1
	end
	if n < most then return 0 end
	return tonumber(redis.call('LINDEX', key, n - most)) + span - now
end

local function drop(key, time) redis.call('LREM', key, -1, time) end

-- Lists of times in pair.

local function within(times, span)
	local list = {}
	for _, t in ipairs(times or {}) do
		if t > now - span then table.insert(list, t) end
	end
	return list
end

local function waitIn(times)
	if #times < limit then return 0 end
	return times[#times - limit + 1] + window - now
end

local function remove(times, time)
	for i = #times, 1, -1 do
		if times[i] == time then return table.remove(times, i) end
	end
end

local packed = redis.call('GET', pair)
local p = packed and cmsgpack.unpack(packed) or {}
if grant or client then
	p.who = p.who or who
else
	who = nil -- the key is of this pair alone
end
local id = table.concat({ kind, shared and 'shared' or '', tag }, ' ')
local open, used = {}, {}
for _, o in ipairs(p.open or {}) do
	if o.time > now - kept then
		table.insert(open, o)
		if o.guess then used[o.guess] = true end
	end
end
p.open = open
for _, name in ipairs({ 'home', 'away', 'other' }) do
	local set = p[name] or {}
	set.times, set.repeats = within(set.times, window), within(set.repeats, window)
	local guesses = {}
	for _, g in ipairs(set.guesses or {}) do
		-- a guess that is over, or cleared, is no longer compared, but its uses are still settled
		if not g.cleared and g.time > now - window or used[g.nonce] then table.insert(guesses, g) end
	end
	set.guesses = guesses
	p[name] = set
end

p.calls = p.calls or {}
for _, c in ipairs(p.calls) do
	if c == nonce then return { 0, 0 } end -- sent twice
end
local function called()
	table.insert(p.calls, nonce)
	if #p.calls > mostCalls then table.remove(p.calls, 1) end
end

-- save writes only what is not empty: there may be a pair for each attempt of an attacker.
local function save()
	called()
	local slim = { who = p.who, calls = p.calls, open = p.open[1] and p.open }
	for _, name in ipairs({ 'home', 'away', 'other' }) do
		local set, full = { right = p[name].right }, p[name].right ~= nil
		for _, list in ipairs({ 'times', 'repeats', 'guesses' }) do
			if p[name][list][1] then set[list], full = p[name][list], true end
		end
		if full then slim[name] = set end
	end
	redis.call('SET', pair, cmsgpack.pack(slim), 'PX', math.ceil(math.max(kept, window) / 1000))
end

-- clear forgets the failures of a pair. What is under way is still settled.
local function clear(set)
	set.times, set.repeats, set.right = {}, {}, nil
	for _, g in ipairs(set.guesses) do g.cleared = true end
end

local awayName = p.who == who and 'away' or 'other'

local function isKnown()
	if grant or client or not placed then return false end
	local time = redis.call('ZSCORE', known, at)
	return time and tonumber(time) > now - 30 * day
end

if call == 'begin' then
	if client and not placed then return { 0, 0 } end
	if right then
		local n = p.who == who and waitIn(p.away.times) or 0
		if n == 0 and packed and p.who == who then
			clear(p.away)
			save()
		end
		return { 0, n }
	end
	local isHome = isKnown()
	local name, set = awayName, p[awayName]
	local own, times = not grant, set.times -- times: of the pair
	local blocked, plain = 0, false
	if isHome and not shared then
		name, set, times = 'home', p.home, p.home.times
		blocked = waitIn(times)
		if blocked == 0 then
			blocked = wait(home, 100 * limit, window)
			if blocked > 0 and #times == 0 then blocked, plain = 0, true end
		end
	elseif client then
		blocked = waitIn(times)
	else
		if isHome then times = p.home.times end -- a shared address counts with the known place
		if not grant then blocked = wait(account, 3 * limit, 4 * window) end
		if placed then
			if not grant then blocked = math.max(blocked, waitIn(times)) end
			blocked = math.max(blocked, wait(place, 10 * limit, window))
		end
		if networked then blocked = math.max(blocked, wait(network, 100 * limit, window)) end
	end
	if blocked > 0 then return { 0, blocked } end

	if s[3] and now <= tonumber(s[3]) then now = tonumber(s[3]) + 1 end
	keep(now)
	local mixed = isHome and shared
	local o = { nonce = nonce, id = id, who = who, time = now, set = name, mixed = mixed or nil }
	if own and tag ~= '' and not plain then
		if set.right and set.right.tag == tag and set.right.time > now - window then
			own = false
		else
			for _, g in ipairs(set.guesses) do
				if g.tag == tag and not g.cleared and g.time > now - window and #set.repeats < 3 * limit then
					own, o.guess = false, g.nonce
					g.uses = g.uses + 1
					table.insert(set.repeats, now)
					break
				end
			end
			if not o.guess then
				o.guess = nonce
				table.insert(set.guesses, { nonce = nonce, tag = tag, time = now, set = name, mixed = mixed or nil, uses = 1 })
			end
		end
	end
	o.own = own and not o.guess or nil
	if own then
		if placed or client then table.insert(times, now) end
		if not client and name ~= 'home' then add(account, 4 * window) end
	end
	if name == 'home' then
		add(home, window)
	elseif not client then
		if placed then add(place, window) end
		if networked then add(network, window) end
	end
	if not client then -- a wrong secret of a client is never settled
		table.insert(p.open, o)
		if #p.open > mostOpen then table.remove(p.open, 1) end
	end
	save()
	return { 0, 0 }
end

-- uncount removes an attempt, or a guess, from the counters of its account.
local function uncount(o)
	remove(o.mixed and p.home.times or p[o.set].times, o.time)
	if not client and o.set ~= 'home' then drop(account, o.time) end
end

if call == 'succeed' or call == 'cancel' then
	for i = #p.open, 1, -1 do -- of equal attempts the latest
		local o = p.open[i]
		if o.id == id and o.who == who then
			table.remove(p.open, i)
			if o.set == 'home' then
				drop(home, o.time)
			elseif not client then
				if placed then drop(place, o.time) end
				if networked then drop(network, o.time) end
			end
			if o.own then uncount(o) end
			local set = p[o.set]
			for k, g in ipairs(set.guesses) do
				if g.nonce == o.guess then
					g.uses = g.uses - 1
					if g.uses > 0 then
						table.remove(set.repeats)
					else
						uncount(g)
						table.remove(set.guesses, k)
					end
					break
				end
			end
			break
		end
	end
end
if call ~= 'cancel' then
	clear(p.home)
	clear(p[awayName])
end
if call == 'forget' then redis.call('DEL', account) end
if call == 'succeed' or call == 'prove' then
	local set = p[awayName]
	if placed and not shared then
		set = p.home
		redis.call('ZADD', known, now, at)
		redis.call('ZREMRANGEBYRANK', known, 0, -9)
		redis.call('PEXPIRE', known, 30 * day / 1000)
	end
	if tag ~= '' then set.right = { tag = tag, time = now } end
	keep(now)
end
save()
return { 0, 0 }
