-- The ledger. Instants are unix milliseconds, UTC, as in the embedded store's twin; JSON that only the program reads is
-- text. Row level security is on everywhere and no policy is made: only the owner and roles that bypass it see a row.

CREATE TABLE meta (
    key text NOT NULL PRIMARY KEY,
    value text NOT NULL
);

-- One row a job. A parent that has done its own work and waits for its children is active without an owner.
CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain text NOT NULL,
    kind text NOT NULL,
    params text NOT NULL,
    priority integer NOT NULL,
    state text NOT NULL
        CHECK (state IN ('waiting', 'delayed', 'active', 'completed', 'failed', 'cancelled')),
    run_at bigint NOT NULL,
    enqueued_at bigint NOT NULL,
    attempt integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    crashes integer NOT NULL DEFAULT 0,
    ran_ms bigint NOT NULL DEFAULT 0,
    fence bigint NOT NULL DEFAULT 0,
    owner text,
    lease_until bigint,
    started_at bigint,
    finished_at bigint,
    parent bigint,
    on_child_failed text NOT NULL DEFAULT 'ignore' CHECK (on_child_failed IN ('ignore', 'fail')),
    children_open bigint NOT NULL DEFAULT 0 CHECK (children_open >= 0),
    children_completed bigint NOT NULL DEFAULT 0 CHECK (children_completed >= 0),
    children_failed bigint NOT NULL DEFAULT 0 CHECK (children_failed >= 0),
    children_cancelled bigint NOT NULL DEFAULT 0 CHECK (children_cancelled >= 0),
    unique_key text,
    unique_scope text CHECK (unique_scope IN ('until_started', 'until_completed', 'for')),
    unique_until bigint,
    unique_held boolean NOT NULL DEFAULT false,
    checkpoint text,
    child_counts text,
    message text,
    cause text CHECK (cause IN ('permanent', 'exhausted', 'poison', 'child')),
    bytes bigint NOT NULL DEFAULT 0,
    -- A final job has an end, and only a final one has.
    CHECK ((finished_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled'))),
    -- Only an active job has an owner, and an owner's lease always has an end.
    CHECK (owner IS NULL OR state = 'active'),
    CHECK ((owner IS NULL) = (lease_until IS NULL)),
    CHECK ((cause IS NOT NULL) = (state = 'failed')),
    CHECK ((unique_key IS NULL) = (unique_scope IS NULL))
)
-- Rows are rewritten several times in their short life: room on the page, and a vacuum that comes early.
WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05,
      autovacuum_vacuum_cost_delay = 0);

-- Each index holds only the rows of one question, so that a job stands in one of the first four at a time.
CREATE INDEX jobs_ready ON jobs (domain, kind, priority, id) WHERE state = 'waiting';
CREATE INDEX jobs_due ON jobs (run_at, domain, kind) WHERE state = 'delayed';
CREATE INDEX jobs_active ON jobs (domain, kind) WHERE state = 'active';
CREATE INDEX jobs_finished ON jobs (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_held;

-- Changes of the counts of jobs, appended by each statement that moves jobs and folded now and then: nobody ever counts
-- the table, and nobody waits for another one's count.
CREATE TABLE job_counts (
    domain text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL,
    jobs bigint NOT NULL,
    -- Bytes of params, checkpoint and message, of finished jobs.
    bytes bigint NOT NULL
)
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION count_new_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_counts (domain, kind, state, jobs, bytes)
    SELECT domain, kind, state, count(*), sum(bytes) FROM new_jobs GROUP BY domain, kind, state;
    RETURN NULL;
END $$;

CREATE FUNCTION count_gone_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_counts (domain, kind, state, jobs, bytes)
    SELECT domain, kind, state, -count(*), -sum(bytes) FROM old_jobs GROUP BY domain, kind, state;
    RETURN NULL;
END $$;

-- A statement that leaves states and bytes as they are, such as a renewal, adds nothing.
CREATE FUNCTION count_moved_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_counts (domain, kind, state, jobs, bytes)
    SELECT domain, kind, state, sum(jobs), sum(bytes)
    FROM (SELECT domain, kind, state, 1 AS jobs, bytes FROM new_jobs
          UNION ALL
          SELECT domain, kind, state, -1, -bytes FROM old_jobs) AS changes
    GROUP BY domain, kind, state
    HAVING sum(jobs) <> 0 OR sum(bytes) <> 0;
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_inserted AFTER INSERT ON jobs REFERENCING NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION count_new_jobs();
CREATE TRIGGER jobs_deleted AFTER DELETE ON jobs REFERENCING OLD TABLE AS old_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION count_gone_jobs();
CREATE TRIGGER jobs_updated AFTER UPDATE ON jobs REFERENCING OLD TABLE AS old_jobs NEW TABLE AS new_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION count_moved_jobs();

-- Tries that did not end well.
CREATE TABLE job_attempts (
    job bigint NOT NULL,
    n integer NOT NULL,
    attempt integer NOT NULL,
    at bigint NOT NULL,
    outcome text NOT NULL
        CHECK (outcome IN ('retry', 'snoozed', 'failed', 'crashed', 'rescued', 'interrupted', 'cancelled')),
    reason text NOT NULL,
    PRIMARY KEY (job, n)
);

-- Processes that share this ledger. Heartbeats are the database's own time, so that no two clocks are compared.
CREATE TABLE nodes (
    -- As configured; a process that starts under the name of another one takes its place.
    name text NOT NULL PRIMARY KEY,
    -- Different for every start; the part of jobs.owner before the slash.
    process text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL,
    heartbeat_at timestamptz NOT NULL
);

-- Who keeps other programs from a kind of job, where sessions are not kept.
CREATE TABLE locks (
    name text NOT NULL PRIMARY KEY,
    -- Jobs of one program share a lock.
    holder text NOT NULL,
    shares integer NOT NULL DEFAULT 1,
    until timestamptz NOT NULL
);

-- From when the fires of a schedule count, unless it has fired since.
CREATE TABLE schedules (
    name text NOT NULL PRIMARY KEY,
    expression text NOT NULL,
    since bigint NOT NULL
);

-- One row a fire of a schedule: the primary key is what makes a fire happen once.
CREATE TABLE fires (
    schedule text NOT NULL,
    fire_at bigint NOT NULL,
    job bigint NOT NULL,
    PRIMARY KEY (schedule, fire_at)
);

CREATE TABLE sync_state (
    provider text NOT NULL,
    entity text NOT NULL,
    last_success_at bigint,
    last_error_at bigint,
    last_error text,
    last_job bigint,
    counts text NOT NULL DEFAULT '{}',
    PRIMARY KEY (provider, entity)
);

-- What was taken from a provider's quota on a day (days since 1970-01-01, UTC).
CREATE TABLE quotas (
    provider text NOT NULL,
    day bigint NOT NULL,
    used bigint NOT NULL CHECK (used >= 0),
    PRIMARY KEY (provider, day)
);

-- Records that failed validation.
CREATE TABLE rejected_records (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    domain text NOT NULL,
    kind text NOT NULL,
    key text,
    reason text NOT NULL,
    raw text NOT NULL,
    job bigint NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX rejected_records_domain ON rejected_records (domain, id);
-- Of one job: records whose key nobody could read, which may be any of those that seem to be gone.
CREATE INDEX rejected_records_nameless ON rejected_records (job) WHERE key IS NULL;

-- Keys that a job's snapshot has shown so far, a list for each page; kept until the job has closed.
CREATE TABLE snapshot_keys (
    job bigint NOT NULL,
    keys text[] NOT NULL
);
CREATE INDEX snapshot_keys_job ON snapshot_keys (job);

ALTER TABLE meta ENABLE ROW LEVEL SECURITY;
ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE nodes ENABLE ROW LEVEL SECURITY;
ALTER TABLE locks ENABLE ROW LEVEL SECURITY;
ALTER TABLE schedules ENABLE ROW LEVEL SECURITY;
ALTER TABLE fires ENABLE ROW LEVEL SECURITY;
ALTER TABLE sync_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE rejected_records ENABLE ROW LEVEL SECURITY;
ALTER TABLE snapshot_keys ENABLE ROW LEVEL SECURITY;
