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

CREATE TABLE media (
    url TEXT NOT NULL PRIMARY KEY,
    object_key TEXT NOT NULL,
    file_hash TEXT NOT NULL,
    content_type TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    width INTEGER,
    height INTEGER,
    attachment INTEGER NOT NULL CHECK (attachment IN (0, 1)),
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE media_links (
    slot TEXT NOT NULL PRIMARY KEY,
    product_sku TEXT NOT NULL,
    entity_type TEXT NOT NULL CHECK (entity_type IN ('product', 'product-variant')),
    entity TEXT NOT NULL,
    field TEXT NOT NULL CHECK (field IN ('primary_image', 'gallery_images')),
    position INTEGER NOT NULL,
    url TEXT NOT NULL,
    object_key TEXT NOT NULL,
    file_name TEXT,
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

CREATE TABLE product_categories (
    code TEXT NOT NULL PRIMARY KEY,
    provider TEXT NOT NULL,
    parent_code TEXT,
    path TEXT NOT NULL,
    level INTEGER NOT NULL,
    sort_order INTEGER NOT NULL,
    names TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE product_prices (
    product_sku TEXT NOT NULL,
    variant_sku TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('selling', 'buying')),
    region TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    price TEXT,
    currency TEXT NOT NULL,
    on_request INTEGER NOT NULL CHECK (on_request IN (0, 1)),
    minimum_quantity INTEGER,
    quantity_increment INTEGER,
    vat_percentage TEXT,
    PRIMARY KEY (product_sku, variant_sku, kind, region, quantity)
) STRICT, WITHOUT ROWID;

CREATE TABLE product_texts (
    product_sku TEXT NOT NULL,
    variant_sku TEXT NOT NULL,
    language TEXT NOT NULL,
    name TEXT,
    short_description TEXT,
    description TEXT,
    meta_name TEXT,
    meta_description TEXT,
    meta_keywords TEXT,
    active INTEGER CHECK (active IN (0, 1)),
    configuration TEXT NOT NULL,
    information TEXT NOT NULL,
    unstructured TEXT NOT NULL,
    PRIMARY KEY (product_sku, variant_sku, language)
) STRICT, WITHOUT ROWID;

CREATE TABLE product_variants (
    sku TEXT NOT NULL PRIMARY KEY,
    product_sku TEXT NOT NULL,
    supplier_sku TEXT,
    ean TEXT,
    brand TEXT,
    category TEXT,
    secondary_categories TEXT NOT NULL,
    search_color TEXT,
    hex_color TEXT,
    country_of_origin TEXT,
    country_of_origin_raw TEXT,
    customs_tariff_number TEXT,
    weight_g TEXT,
    length_mm TEXT,
    width_mm TEXT,
    height_mm TEXT,
    depth_mm TEXT,
    diameter_mm TEXT,
    usb_item INTEGER CHECK (usb_item IN (0, 1)),
    filters TEXT NOT NULL,
    carton_quantity INTEGER,
    carton_net_kg TEXT,
    carton_gross_kg TEXT,
    carton_length_cm TEXT,
    carton_width_cm TEXT,
    carton_height_cm TEXT,
    release_date TEXT,
    delivery_days INTEGER,
    video_url TEXT,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

CREATE TABLE products (
    sku TEXT NOT NULL PRIMARY KEY,
    supplier_code TEXT NOT NULL,
    feed_hash TEXT NOT NULL,
    variants INTEGER NOT NULL,
    default_variants TEXT NOT NULL,
    supplier_sku TEXT,
    ean TEXT,
    brand TEXT,
    category TEXT,
    secondary_categories TEXT NOT NULL,
    search_color TEXT,
    hex_color TEXT,
    country_of_origin TEXT,
    country_of_origin_raw TEXT,
    customs_tariff_number TEXT,
    weight_g TEXT,
    length_mm TEXT,
    width_mm TEXT,
    height_mm TEXT,
    depth_mm TEXT,
    diameter_mm TEXT,
    usb_item INTEGER CHECK (usb_item IN (0, 1)),
    filters TEXT NOT NULL,
    carton_quantity INTEGER,
    carton_net_kg TEXT,
    carton_gross_kg TEXT,
    carton_length_cm TEXT,
    carton_width_cm TEXT,
    carton_height_cm TEXT,
    release_date TEXT,
    delivery_days INTEGER,
    video_url TEXT,
    raw TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

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

CREATE TABLE suppliers (
    code TEXT NOT NULL PRIMARY KEY,
    active INTEGER NOT NULL CHECK (active IN (0, 1)),
    families INTEGER NOT NULL,
    list_etag TEXT,
    list_modified TEXT,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
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

CREATE INDEX media_links_by_product ON media_links (product_sku) WHERE removed_at IS NULL;

CREATE INDEX product_variants_by_product ON product_variants (product_sku) WHERE removed_at IS NULL;

CREATE INDEX products_by_supplier ON products (supplier_code) WHERE removed_at IS NULL;

CREATE INDEX rejected_records_domain ON rejected_records (domain, id);

CREATE INDEX rejected_records_nameless ON rejected_records (job) WHERE key IS NULL;

CREATE INDEX snapshot_keys_job ON snapshot_keys (job);
