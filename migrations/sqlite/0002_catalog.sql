-- The eSIM catalogue. Times are ISO 8601 text, UTC; money is exact decimal text; JSON is text.
-- A row is never deleted: `removed_at` says that the upstream no longer has it.

CREATE TABLE catalog_groups (
    name TEXT NOT NULL PRIMARY KEY,
    description TEXT,
    price_list_url TEXT,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT
) STRICT;

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

-- Countries of a bundle: where it is sold for (`base`) and where it roams. Replaced with their bundle.
CREATE TABLE catalog_bundle_countries (
    bundle_name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('base', 'roaming')),
    iso TEXT NOT NULL,
    name TEXT,
    region TEXT,
    PRIMARY KEY (bundle_name, role, iso)
) STRICT, WITHOUT ROWID;

-- Which bundles a group holds; a bundle may be in several.
CREATE TABLE catalog_bundle_groups (
    group_name TEXT NOT NULL,
    bundle_name TEXT NOT NULL,
    content_hash BLOB NOT NULL,
    changed_at TEXT NOT NULL,
    removed_at TEXT,
    PRIMARY KEY (group_name, bundle_name)
) STRICT, WITHOUT ROWID;
