-- Football: leagues, seasons and countries. A row is never deleted: `removed_at` says that the provider no longer has
-- it. Dates are ISO 8601 text.

-- By name, which is all that is unique: England, Scotland and Wales share a code, and World has none.
CREATE TABLE countries (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    code text,
    flag_url text,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

CREATE TABLE leagues (
    id bigint NOT NULL PRIMARY KEY CHECK (id > 0),
    slug text NOT NULL UNIQUE CHECK (slug <> ''),
    name text NOT NULL,
    type text NOT NULL CHECK (type IN ('League', 'Cup')),
    country text NOT NULL,
    logo_url text,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- A league has two seasons of one year now and then, so the start is part of the key.
CREATE TABLE seasons (
    league_id bigint NOT NULL,
    year bigint NOT NULL CHECK (year BETWEEN 1800 AND 2200),
    start_date text COLLATE "C" NOT NULL,
    end_date text NOT NULL,
    is_current boolean NOT NULL,
    provider text NOT NULL,
    provider_id text NOT NULL,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (league_id, year, start_date),
    CHECK (start_date <= end_date)
);

-- What the provider has of a season. One row a season, replaced with it.
CREATE TABLE season_coverage (
    league_id bigint NOT NULL,
    year bigint NOT NULL,
    start_date text COLLATE "C" NOT NULL,
    events boolean NOT NULL,
    lineups boolean NOT NULL,
    statistics_fixtures boolean NOT NULL,
    statistics_players boolean NOT NULL,
    standings boolean NOT NULL,
    players boolean NOT NULL,
    top_scorers boolean NOT NULL,
    top_assists boolean NOT NULL,
    top_cards boolean NOT NULL,
    injuries boolean NOT NULL,
    predictions boolean NOT NULL,
    odds boolean NOT NULL,
    PRIMARY KEY (league_id, year, start_date)
);

-- Which record of which provider a row of ours came from. `key` is the row's own primary key, as text.
CREATE TABLE provider_sources (
    provider text COLLATE "C" NOT NULL,
    entity text COLLATE "C" NOT NULL CHECK (entity IN ('league', 'country')),
    provider_id text COLLATE "C" NOT NULL,
    key text NOT NULL,
    url text,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (provider, entity, provider_id)
);

-- The slug that a league got when it was first seen. Never marked removed: the slug stays the league's own even while
-- the provider does not have it.
CREATE TABLE league_slugs (
    league_id bigint NOT NULL PRIMARY KEY,
    slug text NOT NULL UNIQUE,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- The account with a provider, as the provider tells it.
CREATE TABLE provider_accounts (
    provider text COLLATE "C" NOT NULL PRIMARY KEY,
    plan text,
    active boolean,
    ends_at text,
    requests_used bigint NOT NULL CHECK (requests_used >= 0),
    requests_limit bigint NOT NULL CHECK (requests_limit >= 0),
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

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
    to_timestamp(last_success_at / 1000.0) AS last_synced_at,
    last_error,
    counts::json AS counts
FROM sync_state;

ALTER TABLE countries ENABLE ROW LEVEL SECURITY;
ALTER TABLE leagues ENABLE ROW LEVEL SECURITY;
ALTER TABLE seasons ENABLE ROW LEVEL SECURITY;
ALTER TABLE season_coverage ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_sources ENABLE ROW LEVEL SECURITY;
ALTER TABLE league_slugs ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_accounts ENABLE ROW LEVEL SECURITY;

-- A view reads with the rights of its owner, whom row level security does not bind: it would show to all who may read
-- the view what the table hides. From version 15 on it can read with the rights of whoever asks.
DO $$
DECLARE
    reader text;
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        EXECUTE 'ALTER VIEW provider_sync_state SET (security_invoker = true)';
    ELSE
        REVOKE ALL ON provider_sync_state FROM PUBLIC;
        FOR reader IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
            EXECUTE format('REVOKE ALL ON provider_sync_state FROM %I', reader);
        END LOOP;
    END IF;
END $$;
