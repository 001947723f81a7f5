-- The schema that all migrations make together.

CREATE VIEW provider_sync_state AS
SELECT
    provider,
    entity,
    CASE
        WHEN last_error_at IS NOT NULL AND last_error_at > coalesce(last_success_at, -1) THEN 'error'
        WHEN last_success_at IS NOT NULL THEN 'ok'
        ELSE 'never'
    END AS status,
    strftime('%Y-%m-%dT%H:%M:%fZ', last_success_at / 1000.0, 'unixepoch') AS last_synced_at,
    last_error,
    counts
FROM sync_state;

CREATE TABLE catalog_bundle_countries (
    bundle_name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('base', 'roaming')),
    iso TEXT NOT NULL,
    name TEXT,
    region TEXT,
    PRIMARY KEY (bundle_name, role, iso)
) STRICT, WITHOUT ROWID;

CREATE TABLE catalog_bundle_groups (
    group_name TEXT NOT NULL,
    bundle_name TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT,
    PRIMARY KEY (group_name, bundle_name)
) STRICT, WITHOUT ROWID;

CREATE TABLE catalog_bundles (
    name TEXT NOT NULL PRIMARY KEY,
    description TEXT,
    unlimited INTEGER NOT NULL CHECK (unlimited IN (0, 1)),
    data_amount_mb INTEGER,
    duration INTEGER NOT NULL,
    duration_unit TEXT NOT NULL,
    speeds TEXT NOT NULL,
    autostart INTEGER CHECK (autostart IN (0, 1)),
    price TEXT NOT NULL,
    currency TEXT,
    billing_type TEXT,
    image_url TEXT,
    allowances TEXT NOT NULL,
    raw TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE catalog_groups (
    name TEXT NOT NULL PRIMARY KEY,
    description TEXT,
    price_list_url TEXT,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE countries (
    name TEXT NOT NULL PRIMARY KEY,
    code TEXT,
    flag_url TEXT,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE fires (
    schedule TEXT NOT NULL,
    fire_at INTEGER NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (schedule, fire_at)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE league_slugs (
    league_id INTEGER NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE leagues (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    slug TEXT NOT NULL UNIQUE CHECK (slug <> ''),
    name TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('League', 'Cup')),
    country TEXT NOT NULL,
    logo_url TEXT,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT;

CREATE TABLE provider_accounts (
    provider TEXT NOT NULL PRIMARY KEY,
    plan TEXT,
    active INTEGER CHECK (active IN (0, 1)),
    ends_at TEXT,
    requests_used INTEGER NOT NULL CHECK (requests_used >= 0),
    requests_limit INTEGER NOT NULL CHECK (requests_limit >= 0),
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE provider_sources (
    provider TEXT NOT NULL,
    entity TEXT NOT NULL CHECK (entity IN ('league', 'country')),
    provider_id TEXT NOT NULL,
    key TEXT NOT NULL,
    url TEXT,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT,
    PRIMARY KEY (provider, entity, provider_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE quotas (
    provider TEXT NOT NULL,
    day INTEGER NOT NULL,
    used INTEGER NOT NULL CHECK (used >= 0),
    PRIMARY KEY (provider, day)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE schedules (
    name TEXT NOT NULL PRIMARY KEY,
    expression TEXT NOT NULL,
    since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE season_coverage (
    league_id INTEGER NOT NULL,
    year INTEGER NOT NULL,
    start_date TEXT NOT NULL,
    events INTEGER NOT NULL CHECK (events IN (0, 1)),
    lineups INTEGER NOT NULL CHECK (lineups IN (0, 1)),
    statistics_fixtures INTEGER NOT NULL CHECK (statistics_fixtures IN (0, 1)),
    statistics_players INTEGER NOT NULL CHECK (statistics_players IN (0, 1)),
    standings INTEGER NOT NULL CHECK (standings IN (0, 1)),
    players INTEGER NOT NULL CHECK (players IN (0, 1)),
    top_scorers INTEGER NOT NULL CHECK (top_scorers IN (0, 1)),
    top_assists INTEGER NOT NULL CHECK (top_assists IN (0, 1)),
    top_cards INTEGER NOT NULL CHECK (top_cards IN (0, 1)),
    injuries INTEGER NOT NULL CHECK (injuries IN (0, 1)),
    predictions INTEGER NOT NULL CHECK (predictions IN (0, 1)),
    odds INTEGER NOT NULL CHECK (odds IN (0, 1)),
    PRIMARY KEY (league_id, year, start_date)
) STRICT, WITHOUT ROWID;

CREATE TABLE seasons (
    league_id INTEGER NOT NULL,
    year INTEGER NOT NULL CHECK (year BETWEEN 1800 AND 2200),
    start_date TEXT NOT NULL,
    end_date TEXT NOT NULL,
    is_current INTEGER NOT NULL CHECK (is_current IN (0, 1)),
    provider TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT,
    PRIMARY KEY (league_id, year, start_date),
    CHECK (start_date <= end_date)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshot_keys (
    job INTEGER NOT NULL,
    keys TEXT NOT NULL
) STRICT;

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

CREATE INDEX jobs_active ON jobs (domain, kind) WHERE state = 'active';

CREATE INDEX jobs_due ON jobs (run_at, domain, kind) WHERE state = 'delayed';

CREATE INDEX jobs_finished ON jobs (state, finished_at, bytes, domain, kind) WHERE finished_at IS NOT NULL;

CREATE INDEX jobs_parent ON jobs (parent) WHERE parent IS NOT NULL;

CREATE INDEX jobs_ready ON jobs (domain, kind, priority, id) WHERE state = 'waiting';

CREATE UNIQUE INDEX jobs_unique ON jobs (unique_key) WHERE unique_held = 1;

CREATE INDEX rejected_records_domain ON rejected_records (domain, id);

CREATE INDEX rejected_records_nameless ON rejected_records (job) WHERE key IS NULL;

CREATE INDEX snapshot_keys_job ON snapshot_keys (job);
