"""What changes or reads more than one key, as scripts: each is done as a whole."""

from segue.valkey.streams import COMMIT

#: KEYS: meta, fence, segments, features, identifiers, index, merged, names, outbox. ARGV: see `Store.apply`.
#: The first write is one that is refused for want of memory, so that a refused update has changed nothing.
#: An update that comes again because its answer was lost is known by its number, and not applied twice.
APPLY = """
local META, FENCE, SEGMENTS, FEATURES, IDENTIFIERS, INDEX, MERGED, NAMES, OUTBOX =
    KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local call = redis.call
local fence = call('GET', FENCE) or '0'
if fence ~= ARGV[1] then return 'fence' end
if call('HGET', META, 'update') == ARGV[6] then return 'ok' end
local at = call('HGET', META, 'position') or ''
if at ~= ARGV[2] then return 'position' end
local members, as_of = ARGV[5], ARGV[4]
if as_of < (call('HGET', META, 'as_of') or '') then as_of = call('HGET', META, 'as_of') end
call('HSET', META, 'position', ARGV[3], 'as_of', as_of, 'update', ARGV[6])

local function leave(person)
    local old = call('HGET', SEGMENTS, person)
    if old then
        for name in pairs(cjson.decode(old)) do call('ZREM', members .. name, person) end
    end
    local keys = call('HGET', IDENTIFIERS, person)
    if keys then
        for _, pair in ipairs(cjson.decode(keys)) do
            local field = pair[1] .. ':' .. pair[2]
            if call('HGET', INDEX, field) == person then call('HDEL', INDEX, field) end
        end
    end
    call('HDEL', SEGMENTS, person)
    call('HDEL', FEATURES, person)
    call('HDEL', IDENTIFIERS, person)
end

local i = 7
local count = tonumber(ARGV[i]); i = i + 1
for _ = 1, count do
    leave(ARGV[i])
    call('HSET', MERGED, ARGV[i], ARGV[i + 1])
    i = i + 2
end
count = tonumber(ARGV[i]); i = i + 1
for _ = 1, count do leave(ARGV[i]); i = i + 1 end

count = tonumber(ARGV[i]); i = i + 1
for _ = 1, count do
    local person, new, features, keys = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    i = i + 4
    local old = call('HGET', SEGMENTS, person)
    if old ~= new then
        local was, now = old and cjson.decode(old) or {}, cjson.decode(new)
        for name in pairs(was) do
            if now[name] == nil then call('ZREM', members .. name, person) end
        end
        for name in pairs(now) do
            if was[name] == nil then
                call('ZADD', members .. name, 0, person)
                call('SADD', NAMES, name)
            end
        end
        call('HSET', SEGMENTS, person, new)
    end
    if not old then call('HDEL', MERGED, person) end  -- a merge that was undone: the id is somebody again
    call('HSET', FEATURES, person, features)
    local known = call('HGET', IDENTIFIERS, person)
    if known ~= keys then
        local now = {}
        for _, pair in ipairs(cjson.decode(keys)) do
            local field = pair[1] .. ':' .. pair[2]
            now[field] = true
            call('HSET', INDEX, field, person)
        end
        if known then
            for _, pair in ipairs(cjson.decode(known)) do
                local field = pair[1] .. ':' .. pair[2]
                if not now[field] and call('HGET', INDEX, field) == person then call('HDEL', INDEX, field) end
            end
        end
        call('HSET', IDENTIFIERS, person, keys)
    end
end
for n = i, #ARGV do call('XADD', OUTBOX, '*', 't', ARGV[n]) end
return 'ok'
"""

#: KEYS: segments, index, merged, features, identifiers. ARGV: whether all of it, identifier as a person's id, fields…
FIND = """
local person = ARGV[2]
local found = redis.call('HGET', KEYS[1], person)
local steps = 0
while not found and steps < 64 do  -- what it became, and what that became
    person = redis.call('HGET', KEYS[3], person)
    if not person then break end
    found = redis.call('HGET', KEYS[1], person)
    steps = steps + 1
end
if not found then
    for i = 3, #ARGV do
        person = redis.call('HGET', KEYS[2], ARGV[i])
        if person then
            found = redis.call('HGET', KEYS[1], person)
            break
        end
    end
end
if not found then return false end
if ARGV[1] == '0' then return {person, found} end
return {person, found, redis.call('HGET', KEYS[4], person) or '{}', redis.call('HGET', KEYS[5], person) or '[]'}
"""

#: As FIND, for several: KEYS: segments, index, merged. ARGV: of each, how many fields, identifier, fields…
#: Person and segments of each, '' for who is not found.
FIND_MANY = """
local SEGMENTS, INDEX, MERGED, call = KEYS[1], KEYS[2], KEYS[3], redis.call
local answer, i = {}, 1
while i <= #ARGV do
    local last, person = i + 1 + tonumber(ARGV[i]), ARGV[i + 1]
    local found, steps = call('HGET', SEGMENTS, person), 0
    while not found and steps < 64 do
        person = call('HGET', MERGED, person)
        if not person then break end
        found = call('HGET', SEGMENTS, person)
        steps = steps + 1
    end
    if not found then
        for at = i + 2, last do
            person = call('HGET', INDEX, ARGV[at])
            if person then
                found = call('HGET', SEGMENTS, person)
                break
            end
        end
    end
    answer[#answer + 1] = found and person or ''
    answer[#answer + 1] = found or ''
    i = last + 1
end
return answer
"""

#: KEYS: lease, fence. ARGV: owner, milliseconds.
ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])
return token
"""

#: KEYS: lease, fence. ARGV: token, owner, milliseconds. A lease that ran out and that nobody took is ours again.
RENEW = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return 1
"""

#: KEYS: meta, fence. ARGV: token, field, value. Only the newest engine speaks.
NOTE = """
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
"""

#: KEYS: lease, fence. ARGV: token.
RELEASE = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

#: As COMMIT of the streams, for a reader that there is.
COMMIT_KNOWN = f"""
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return end
{COMMIT}"""
