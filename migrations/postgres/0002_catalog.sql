-- The eSIM catalogue. A row is never deleted: `removed_at` says that the upstream no longer has it. Texts of a key are
-- compared byte by byte, as in the embedded store: pages of a listing then come from the key's index in any database.

CREATE TABLE catalog_groups (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    description text,
    price_list_url text,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

CREATE TABLE catalog_bundles (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    description text,
    unlimited boolean NOT NULL,
    data_amount_mb bigint,
    duration bigint NOT NULL,
    duration_unit text NOT NULL,
    speeds jsonb NOT NULL,
    autostart boolean,
    price numeric NOT NULL,
    currency text,
    billing_type text,
    image_url text,
    allowances jsonb NOT NULL,
    raw jsonb NOT NULL,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- Countries of a bundle: where it is sold for (`base`) and where it roams. Replaced with their bundle.
CREATE TABLE catalog_bundle_countries (
    bundle_name text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL CHECK (role IN ('base', 'roaming')),
    iso text COLLATE "C" NOT NULL,
    name text,
    region text,
    PRIMARY KEY (bundle_name, role, iso)
);

-- Which bundles a group holds; a bundle may be in several.
CREATE TABLE catalog_bundle_groups (
    group_name text COLLATE "C" NOT NULL,
    bundle_name text COLLATE "C" NOT NULL,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (group_name, bundle_name)
);

ALTER TABLE catalog_groups ENABLE ROW LEVEL SECURITY;
ALTER TABLE catalog_bundles ENABLE ROW LEVEL SECURITY;
ALTER TABLE catalog_bundle_countries ENABLE ROW LEVEL SECURITY;
ALTER TABLE catalog_bundle_groups ENABLE ROW LEVEL SECURITY;
