"""The tables of ``calls.db``, and the migrations from its earlier formats.

The SQL that reads and writes the tables stands with their owners: ``calls`` and ``replies`` in
:mod:`dsrl.teaching.reply_store`, ``holds`` in :mod:`dsrl.teaching.holds`, ``batches`` and ``batch_items`` in
:mod:`dsrl.teaching.batches.store`.
"""

from __future__ import annotations

from dsrl.storage.sqlite import Schema

_VERSION = 3
_TABLES = """
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    purpose TEXT NOT NULL,
    teacher TEXT NOT NULL,
    model TEXT NOT NULL,
    replies INTEGER NOT NULL,           -- 0: the call failed and was billed nevertheless
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    cost_usd REAL,                      -- NULL: the price or the bill is not known
    seconds REAL NOT NULL,              -- of the call alone, without waiting (0 in a batch)
    batch TEXT,                         -- the provider's id of the batch; NULL: no batch
    ended REAL NOT NULL                 -- Unix time
);
CREATE INDEX calls_by_run ON calls (run);
CREATE TABLE replies (
    key TEXT NOT NULL,                  -- of the request, without the number of the reply
    number INTEGER NOT NULL,            -- among the answers to the same request
    call INTEGER NOT NULL REFERENCES calls (id),
    text TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    PRIMARY KEY (key, number)
) WITHOUT ROWID;
CREATE TABLE holds (                    -- worst-case cost of calls in flight; those of lost answers stay
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    usd REAL NOT NULL
);
CREATE INDEX holds_by_run ON holds (run);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    token TEXT NOT NULL,                -- name that dsrl gave it before it was submitted
    provider_id TEXT,                   -- NULL: not submitted yet, or dsrl was killed while submitting
    run TEXT NOT NULL,
    teacher TEXT NOT NULL,
    place TEXT NOT NULL,                -- identity of the teacher: the server that has the batch
    model TEXT NOT NULL,
    options TEXT NOT NULL,              -- of the teacher, as JSON
    submitted REAL NOT NULL,            -- Unix time
    status TEXT NOT NULL,               -- submitting, or a dsrl.types.BatchStatus
    done INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE batch_items (
    batch INTEGER NOT NULL REFERENCES batches (id),
    item INTEGER NOT NULL,              -- number of the request in the batch
    key TEXT NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    hold INTEGER,
    PRIMARY KEY (batch, item)
) WITHOUT ROWID;
CREATE INDEX batch_items_by_key ON batch_items (key)
"""
# A table that changes is created again, so that a migrated file has the same layout as a new one.
_MIGRATIONS = {
    1: """
CREATE TABLE new_calls (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    purpose TEXT NOT NULL,
    teacher TEXT NOT NULL,
    model TEXT NOT NULL,
    replies INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    cost_usd REAL,
    seconds REAL NOT NULL,
    batch TEXT,
    ended REAL NOT NULL
);
INSERT INTO new_calls
    SELECT id, run, purpose, teacher, model, coalesce(given, 0), prompt_tokens, completion_tokens, cached_tokens, 0,
        cost_usd, seconds, NULL, ended
    FROM calls LEFT JOIN (SELECT call, count(*) AS given FROM replies GROUP BY call) ON call = id;
DROP TABLE calls;
ALTER TABLE new_calls RENAME TO calls;
CREATE INDEX calls_by_run ON calls (run);
CREATE TABLE holds (id INTEGER PRIMARY KEY, run TEXT NOT NULL, usd REAL NOT NULL);
CREATE INDEX holds_by_run ON holds (run);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    provider_id TEXT,
    run TEXT NOT NULL,
    teacher TEXT NOT NULL,
    place TEXT NOT NULL,
    model TEXT NOT NULL,
    options TEXT NOT NULL,
    submitted REAL NOT NULL,
    status TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE batch_items (
    batch INTEGER NOT NULL REFERENCES batches (id),
    item INTEGER NOT NULL,
    key TEXT NOT NULL,
    first INTEGER NOT NULL,
    n INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    hold INTEGER,
    PRIMARY KEY (batch, item)
) WITHOUT ROWID;
""",
    # A batch that was being submitted had no token to find it by: it is lost, and its money stays on hold.
    2: """
CREATE TABLE new_batches (
    id INTEGER PRIMARY KEY,
    token TEXT NOT NULL,
    provider_id TEXT,
    run TEXT NOT NULL,
    teacher TEXT NOT NULL,
    place TEXT NOT NULL,
    model TEXT NOT NULL,
    options TEXT NOT NULL,
    submitted REAL NOT NULL,
    status TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0
);
INSERT INTO new_batches
    SELECT id, lower(hex(randomblob(8))), provider_id, run, teacher, place, model, options, submitted,
        CASE status WHEN 'submitting' THEN 'failed' ELSE status END, done
    FROM batches;
DROP TABLE batches;
ALTER TABLE new_batches RENAME TO batches;
CREATE INDEX IF NOT EXISTS batch_items_by_key ON batch_items (key);
""",
}
SCHEMA = Schema(_VERSION, _TABLES, _MIGRATIONS)
