-- Football: leagues, seasons and countries. Times are ISO 8601 text, UTC; dates are ISO 8601 text; JSON is text.
-- A row is never deleted: `removed_at` says that the provider no longer has it.

-- By name, which is all that is unique: England, Scotland and Wales share a code, and World has none.
CREATE TABLE countries (
    name TEXT NOT NULL PRIMARY KEY,
    code TEXT,
    flag_url TEXT,
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

-- A league has two seasons of one year now and then, so the start is part of the key.
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

-- What the provider has of a season. One row a season, replaced with it.
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

-- Which record of which provider a row of ours came from. `key` is the row's own primary key, as text.
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

-- The slug that a league got when it was first seen. Never marked removed: the slug stays the league's own even while
-- the provider does not have it.
CREATE TABLE league_slugs (
    league_id INTEGER NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

-- The account with a provider, as the provider tells it.
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

-- How fresh everything is, for people and dashboards.
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
