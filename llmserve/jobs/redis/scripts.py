"""What happens in Redis, each as one script: all of it or nothing.

Every key begins with `PREFIX`. It is one Redis, not a cluster: a script finds its keys itself.

    files, charges          hashes: what is known of each file, and what it counts for
    usage                   hash: bytes of all (`*`) and of each key (`=NAME`)
    files-of:KEY            sorted set: a key's files by their creation
    expiry                  sorted set: files by the end of their time
    batch:ID                hash: the record, its state, its counts
    batches-of:KEY          sorted set: a key's batches by their creation
    open-of:KEY             hash: a key's open batches, each with its kind and its input
    idempotency:KEY         hash: Idempotency-Key to batch
    due                     sorted set: batches by the time at which somebody must look at them
    running                 sorted set: batches in progress by the time at which they got a worker
    lines:ID                stream: lines without a result; the entry of line 7 is 7-0
    held:ID                 sorted set: lines that a worker has or that were put off, by the time
                            from which another may have them
    owners:ID               hash: who has a line
    tries:ID                hash: how often a line was taken (`t`), and put off (`a`)
    results:ID, done:ID     hash and sorted set: results by line
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "llmserve:"
GROUP: Final = "workers"

START: Final = f"""
local P, GROUP = '{PREFIX}', '{GROUP}'
local function charge(caller, bytes)
    redis.call('HINCRBY', P .. 'usage', '*', bytes)
    redis.call('HINCRBY', P .. 'usage', '=' .. caller, bytes)
end
local function forget_lines(id)
    local batch = P .. 'batch:' .. id
    local caller, bytes = unpack(redis.call('HMGET', batch, 'caller', 'bytes'))
    if caller and tonumber(bytes) > 0 then
        charge(caller, -tonumber(bytes))
        redis.call('HSET', batch, 'bytes', 0)
    end
    for _, kind in ipairs({{'lines', 'held', 'owners', 'tries', 'results', 'done'}}) do
        redis.call('DEL', P .. kind .. ':' .. id)
    end
end
local function put_file(id, caller, record, size, expires)
    local before = redis.call('HGET', P .. 'charges', id)
    charge(caller, size - tonumber(before or 0))
    redis.call('HSET', P .. 'files', id, record)
    redis.call('HSET', P .. 'charges', id, size)
    redis.call('ZADD', P .. 'expiry', expires, id)
    if not before then
        redis.call('ZADD', P .. 'files-of:' .. caller, redis.call('INCR', P .. 'place'), id)
    end
end
local function update(id, was, record, status, is_open, due)
    local batch = P .. 'batch:' .. id
    if redis.call('HGET', batch, 'status') ~= was then return false end
    redis.call('HSET', batch, 'record', record, 'status', status)
    redis.call('ZADD', P .. 'due', due, id)
    if status ~= 'in_progress' then redis.call('ZREM', P .. 'running', id) end
    if is_open == '0' then
        redis.call('HDEL', P .. 'open-of:' .. redis.call('HGET', batch, 'caller'), id)
        redis.call('SREM', P .. 'open', id)
    end
    return true
end
local function whole(id)
    return redis.call('HMGET', P .. 'batch:' .. id, 'record', 'total', 'completed', 'failed')
end
"""
"""What the scripts share."""

RESERVE: Final = """
local id, caller, record, expires, total_bytes, key_bytes = unpack(ARGV, 1, 6)
local size = tonumber(ARGV[7])
local used, own = unpack(redis.call('HMGET', P .. 'usage', '*', '=' .. caller))
used, own = tonumber(used or 0), tonumber(own or 0)
if used + size > tonumber(total_bytes) or own + size > tonumber(key_bytes) then
    return {used, own}
end
put_file(id, caller, record, size, expires)
return nil
"""

PUT_FILE: Final = """
put_file(ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5])
"""

FORGET_FILE: Final = """
local id = ARGV[1]
local record = redis.call('HGET', P .. 'files', id)
if not record then return 0 end
local caller = cjson.decode(record)['caller']
charge(caller, -tonumber(redis.call('HGET', P .. 'charges', id)))
redis.call('HDEL', P .. 'files', id)
redis.call('HDEL', P .. 'charges', id)
redis.call('ZREM', P .. 'expiry', id)
redis.call('ZREM', P .. 'files-of:' .. caller, id)
return 1
"""

CREATE: Final = """
local id, caller, kind, status, input, record, due, key, digest, most = unpack(ARGV, 1, 10)
if key ~= '' then
    local known = redis.call('HGET', P .. 'idempotency:' .. caller, key)
    if known then
        local before, its_digest = known:match('^(%S+) (%S+)$')
        if its_digest ~= digest then return {'reused'} end
        return {'found', unpack(whole(before))}
    end
end
local count = 0
for _, one in ipairs(redis.call('HVALS', P .. 'open-of:' .. caller)) do
    if one:sub(1, #kind + 1) == kind .. ' ' then count = count + 1 end
end
if count >= tonumber(most) then return {'full', count} end
redis.call('HSET', P .. 'batch:' .. id, 'record', record, 'status', status, 'caller', caller,
    'input', input, 'total', 0, 'completed', 0, 'failed', 0, 'bytes', 0, 'key', key)
redis.call('ZADD', P .. 'batches-of:' .. caller, redis.call('INCR', P .. 'place'), id)
redis.call('HSET', P .. 'open-of:' .. caller, id, kind .. ' ' .. input)
redis.call('SADD', P .. 'open', id)
redis.call('ZADD', P .. 'due', due, id)
if key ~= '' then
    redis.call('HSET', P .. 'idempotency:' .. caller, key, id .. ' ' .. digest)
end
return {'made'}
"""

UPDATE: Final = """
local id = ARGV[1]
if not update(id, unpack(ARGV, 2, 6)) then return 0 end
if ARGV[7] == '1' then forget_lines(id) end
return 1
"""

TAKE_BATCH: Final = """
local now, later = unpack(ARGV)
local id = redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, 1)[1]
if not id then return nil end
redis.call('ZADD', P .. 'due', later, id)
return whole(id)
"""

REMOVE: Final = """
local id = ARGV[1]
local batch = P .. 'batch:' .. id
local caller, key = unpack(redis.call('HMGET', batch, 'caller', 'key'))
if not caller then return end
forget_lines(id)
if key ~= '' then redis.call('HDEL', P .. 'idempotency:' .. caller, key) end
redis.call('ZREM', P .. 'batches-of:' .. caller, id)
redis.call('HDEL', P .. 'open-of:' .. caller, id)
redis.call('SREM', P .. 'open', id)
redis.call('ZREM', P .. 'due', id)
redis.call('ZREM', P .. 'running', id)
redis.call('DEL', batch)
"""

BEGIN: Final = """
local id, record, due, count, most, adding = unpack(ARGV, 1, 6)
if redis.call('EXISTS', adding) == 0 then return {'gone'} end
local batch = P .. 'batch:' .. id
local lines = 0
local caller = redis.call('HGET', batch, 'caller')
for _, one in ipairs(redis.call('HKEYS', P .. 'open-of:' .. (caller or ''))) do
    lines = lines + tonumber(redis.call('HGET', P .. 'batch:' .. one, 'total'))
end
if lines + tonumber(count) > tonumber(most) then return {'full', lines} end
if not update(id, 'validating', record, 'in_progress', '1', due) then return {'gone'} end
redis.call('HSET', batch, 'total', count)
redis.call('RENAME', adding, P .. 'lines:' .. id)
redis.call('PERSIST', P .. 'lines:' .. id)
redis.call('XGROUP', 'CREATE', P .. 'lines:' .. id, GROUP, '0')
redis.call('ZADD', P .. 'running', 0, id)
return {'begun'}
"""

DEPTH: Final = """
local lines = 0
for _, id in ipairs(redis.call('ZRANGE', P .. 'running', 0, -1)) do
    lines = lines + redis.call('XLEN', P .. 'lines:' .. id)
end
return {redis.call('SCARD', P .. 'open'), lines}
"""

TAKE_LINES: Final = """
local now, later, owner, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
for _, id in ipairs(redis.call('ZRANGE', P .. 'running', 0, -1)) do
    local stream, held = P .. 'lines:' .. id, P .. 'held:' .. id
    local entries = {}
    local again = redis.call('ZRANGEBYSCORE', held, '-inf', now, 'LIMIT', 0, limit)
    for _, number in ipairs(again) do
        local claimed = redis.call('XCLAIM', stream, GROUP, owner, 0, number .. '-0')
        if claimed[1] then table.insert(entries, claimed[1]) end
    end
    if #entries < limit then
        local fresh = redis.call('XREADGROUP', 'GROUP', GROUP, owner, 'COUNT', limit - #entries,
            'STREAMS', stream, '>')
        if fresh then
            for _, entry in ipairs(fresh[1][2]) do table.insert(entries, entry) end
        end
    end
    if #entries > 0 then
        redis.call('ZADD', P .. 'running', now, id)
        local caller, input = unpack(redis.call('HMGET', P .. 'batch:' .. id, 'caller', 'input'))
        local told = {id, caller, input}
        for _, entry in ipairs(entries) do
            local number, fields = entry[1]:match('^%d+'), entry[2]
            redis.call('ZADD', held, later, number)
            redis.call('HSET', P .. 'owners:' .. id, number, owner)
            local taken = redis.call('HINCRBY', P .. 'tries:' .. id, 't' .. number, 1)
            local off = redis.call('HGET', P .. 'tries:' .. id, 'a' .. number) or 0
            table.insert(told, {number, fields[2], fields[4], fields[6], taken, tonumber(off)})
        end
        return told
    end
end
return nil
"""

HOLD_LINES: Final = """
local later, owner = ARGV[1], ARGV[2]
local kept = {}
for i = 3, #ARGV, 2 do
    local id, number = ARGV[i], ARGV[i + 1]
    local is_wanted = redis.call('HGET', P .. 'batch:' .. id, 'status') == 'in_progress'
    if is_wanted and redis.call('HGET', P .. 'owners:' .. id, number) == owner then
        redis.call('ZADD', P .. 'held:' .. id, later, number)
        redis.call('XCLAIM', P .. 'lines:' .. id, GROUP, owner, 0, number .. '-0', 'JUSTID')
        table.insert(kept, {id, number})
    end
end
return kept
"""

RELEASE: Final = """
local due, counter, by, owner = unpack(ARGV, 1, 4)
for i = 5, #ARGV, 2 do
    local id, number = ARGV[i], ARGV[i + 1]
    if redis.call('HGET', P .. 'owners:' .. id, number) == owner then
        redis.call('ZADD', P .. 'held:' .. id, due, number)
        redis.call('HDEL', P .. 'owners:' .. id, number)
        redis.call('HINCRBY', P .. 'tries:' .. id, counter .. number, by)
    end
end
"""

FINISH: Final = """
local id, number, is_success, content = unpack(ARGV)
local batch = P .. 'batch:' .. id
if redis.call('HGET', batch, 'status') ~= 'in_progress' then return 0 end
if redis.call('HSETNX', P .. 'results:' .. id, number, is_success .. content) == 0 then return 0 end
redis.call('ZADD', P .. 'done:' .. id, number, number)
redis.call('XACK', P .. 'lines:' .. id, GROUP, number .. '-0')
redis.call('XDEL', P .. 'lines:' .. id, number .. '-0')
redis.call('ZREM', P .. 'held:' .. id, number)
redis.call('HDEL', P .. 'owners:' .. id, number)
redis.call('HDEL', P .. 'tries:' .. id, 't' .. number, 'a' .. number)
redis.call('HINCRBY', batch, is_success == '1' and 'completed' or 'failed', 1)
redis.call('HINCRBY', batch, 'bytes', #content)
charge(redis.call('HGET', batch, 'caller'), #content)
local total, completed, failed = unpack(redis.call('HMGET', batch, 'total', 'completed', 'failed'))
if completed + failed >= tonumber(total) then redis.call('ZADD', P .. 'due', 0, id) end
return 1
"""
