-- The ledger. Instants are unix milliseconds, UTC; booleans are 0 and 1; JSON is text.

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Words are checked with OR and not with IN: for a list of three or more SQLite builds a table in memory for every row
-- it writes, which halved what the ledger could do.

-- One row a job. A parent that has done its own work and waits for its children is active without an owner.
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    kind TEXT NOT NULL,
    params TEXT NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL
        CHECK (state = 'waiting' OR state = 'delayed' OR state = 'active'
            OR state = 'completed' OR state = 'failed' OR state = 'cancelled'),
    run_at INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    crashes INTEGER NOT NULL DEFAULT 0,
    ran_ms INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    lease_until INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    parent INTEGER,
    on_child_failed TEXT NOT NULL DEFAULT 'ignore' CHECK (on_child_failed = 'ignore' OR on_child_failed = 'fail'),
    children_open INTEGER NOT NULL DEFAULT 0 CHECK (children_open >= 0),
    children_completed INTEGER NOT NULL DEFAULT 0 CHECK (children_completed >= 0),
    children_failed INTEGER NOT NULL DEFAULT 0 CHECK (children_failed >= 0),
    children_cancelled INTEGER NOT NULL DEFAULT 0 CHECK (children_cancelled >= 0),
    unique_key TEXT,
    unique_scope TEXT
        CHECK (unique_scope = 'until_started' OR unique_scope = 'until_completed' OR unique_scope = 'for'),
    unique_until INTEGER,
    unique_held INTEGER NOT NULL DEFAULT 0 CHECK (unique_held = 0 OR unique_held = 1),
    checkpoint TEXT,
    child_counts TEXT,
    message TEXT,
    cause TEXT CHECK (cause = 'permanent' OR cause = 'exhausted' OR cause = 'poison' OR cause = 'child'),
    bytes INTEGER NOT NULL DEFAULT 0,
    -- A final job has an end, and only a final one has.
    CHECK ((finished_at IS NOT NULL) = (state = 'completed' OR state = 'failed' OR state = 'cancelled')),
    -- Only an active job has an owner, and an owner's lease always has an end.
    CHECK (owner IS NULL OR state = 'active'),
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK ((cause IS NOT NULL) = (state = 'failed')),
    CHECK ((unique_key IS NULL) = (unique_scope IS NULL))
) STRICT;

-- Each index holds only the rows of one question, so that a job stands in one of the first four at a time.
CREATE INDEX jobs_ready ON jobs (domain, kind, priority, id) WHERE state = 'waiting';
CREATE INDEX jobs_due ON jobs (run_at, domain, kind) WHERE state = 'delayed';
CREATE INDEX jobs_active ON jobs (domain, kind) WHERE state = 'active';
CREATE INDEX jobs_finished ON jobs (state, finished_at, bytes, domain, kind) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_held = 1;

-- Tries that did not end well.
CREATE TABLE job_attempts (
    job INTEGER NOT NULL,
    n INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    outcome TEXT NOT NULL
        CHECK (outcome IN ('retry', 'snoozed', 'failed', 'crashed', 'rescued', 'interrupted', 'cancelled')),
    reason TEXT NOT NULL,
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;

-- From when the fires of a schedule count, unless it has fired since.
CREATE TABLE schedules (
    name TEXT NOT NULL PRIMARY KEY,
    expression TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a fire of a schedule: the primary key is what makes a fire happen once.
CREATE TABLE fires (
    schedule TEXT NOT NULL,
    fire_at INTEGER NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (schedule, fire_at)
) STRICT, WITHOUT ROWID;

CREATE TABLE sync_state (
    provider TEXT NOT NULL,
    entity TEXT NOT NULL,
    last_success_at INTEGER,
    last_error_at INTEGER,
    last_error TEXT,
    last_job INTEGER,
    counts TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (provider, entity)
) STRICT, WITHOUT ROWID;

-- What was taken from a provider's quota on a day (days since 1970-01-01, UTC).
CREATE TABLE quotas (
    provider TEXT NOT NULL,
    day INTEGER NOT NULL,
    used INTEGER NOT NULL CHECK (used >= 0),
    PRIMARY KEY (provider, day)
) STRICT, WITHOUT ROWID;

-- Records that failed validation.
CREATE TABLE rejected_records (
    id INTEGER PRIMARY KEY,
    domain TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    reason TEXT NOT NULL,
    raw TEXT NOT NULL,
    job INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX rejected_records_domain ON rejected_records (domain, id);
-- Of one job: records whose key nobody could read, which may be any of those that seem to be gone.
CREATE INDEX rejected_records_nameless ON rejected_records (job) WHERE key IS NULL;

-- Keys that a job's snapshot has shown so far, a JSON list for each page; kept until the job has closed.
CREATE TABLE snapshot_keys (
    job INTEGER NOT NULL,
    keys TEXT NOT NULL
) STRICT;
CREATE INDEX snapshot_keys_job ON snapshot_keys (job);
