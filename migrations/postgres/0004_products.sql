-- Promidata's products. A row is never deleted: `removed_at` says that the feed no longer has it.

-- One row a supplier of the list.
CREATE TABLE suppliers (
    code text COLLATE "C" NOT NULL PRIMARY KEY,
    active boolean NOT NULL,
    families bigint NOT NULL,
    list_etag text,
    list_modified text,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- One row a family, by its `Sku`. What it says in languages and its prices stand in the details.
CREATE TABLE products (
    sku text COLLATE "C" NOT NULL PRIMARY KEY,
    supplier_code text NOT NULL,
    feed_hash text NOT NULL,
    variants bigint NOT NULL,
    default_variants jsonb NOT NULL,
    supplier_sku text,
    ean text,
    brand text,
    category text,
    secondary_categories jsonb NOT NULL,
    search_color text,
    hex_color text,
    country_of_origin text,
    country_of_origin_raw text,
    customs_tariff_number text,
    weight_g numeric,
    length_mm numeric,
    width_mm numeric,
    height_mm numeric,
    depth_mm numeric,
    diameter_mm numeric,
    usb_item boolean,
    filters jsonb NOT NULL,
    carton_quantity bigint,
    carton_net_kg numeric,
    carton_gross_kg numeric,
    carton_length_cm numeric,
    carton_width_cm numeric,
    carton_height_cm numeric,
    release_date text,
    delivery_days bigint,
    video_url text,
    raw jsonb NOT NULL,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- What a family and its variants say in each language. Replaced with their family.
CREATE TABLE product_texts (
    product_sku text COLLATE "C" NOT NULL,
    variant_sku text COLLATE "C" NOT NULL,
    language text COLLATE "C" NOT NULL,
    name text,
    short_description text,
    description text,
    meta_name text,
    meta_description text,
    meta_keywords text,
    active boolean,
    configuration jsonb NOT NULL,
    information jsonb NOT NULL,
    unstructured jsonb NOT NULL,
    PRIMARY KEY (product_sku, variant_sku, language)
);

-- Price ladders of a family and its variants, by region. Replaced with their family.
CREATE TABLE product_prices (
    product_sku text COLLATE "C" NOT NULL,
    variant_sku text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('selling', 'buying')),
    region text COLLATE "C" NOT NULL,
    quantity bigint NOT NULL,
    price numeric,
    currency text NOT NULL,
    on_request boolean NOT NULL,
    minimum_quantity bigint,
    quantity_increment bigint,
    vat_percentage numeric,
    PRIMARY KEY (product_sku, variant_sku, kind, region, quantity)
);

-- One row a variant, by its own `Sku`, which in a family of one is the family's too.
CREATE TABLE product_variants (
    sku text COLLATE "C" NOT NULL PRIMARY KEY,
    product_sku text NOT NULL,
    supplier_sku text,
    ean text,
    brand text,
    category text,
    secondary_categories jsonb NOT NULL,
    search_color text,
    hex_color text,
    country_of_origin text,
    country_of_origin_raw text,
    customs_tariff_number text,
    weight_g numeric,
    length_mm numeric,
    width_mm numeric,
    height_mm numeric,
    depth_mm numeric,
    diameter_mm numeric,
    usb_item boolean,
    filters jsonb NOT NULL,
    carton_quantity bigint,
    carton_net_kg numeric,
    carton_gross_kg numeric,
    carton_length_cm numeric,
    carton_width_cm numeric,
    carton_height_cm numeric,
    release_date text,
    delivery_days bigint,
    video_url text,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- The tree of categories, from CAT.csv.
CREATE TABLE product_categories (
    code text COLLATE "C" NOT NULL PRIMARY KEY,
    provider text NOT NULL,
    parent_code text,
    path text NOT NULL,
    level bigint NOT NULL,
    sort_order bigint NOT NULL,
    names jsonb NOT NULL,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- One row an address that was downloaded; several may lead to one file.
CREATE TABLE media (
    url text COLLATE "C" NOT NULL PRIMARY KEY,
    object_key text NOT NULL,
    file_hash text NOT NULL,
    content_type text NOT NULL,
    bytes bigint NOT NULL,
    width bigint,
    height bigint,
    attachment boolean NOT NULL,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- Which image stands where: one row a place.
CREATE TABLE media_links (
    slot text COLLATE "C" NOT NULL PRIMARY KEY,
    product_sku text NOT NULL,
    entity_type text NOT NULL CHECK (entity_type IN ('product', 'product-variant')),
    entity text NOT NULL,
    field text NOT NULL CHECK (field IN ('primary_image', 'gallery_images')),
    position bigint NOT NULL,
    url text NOT NULL,
    object_key text NOT NULL,
    file_name text,
    content_hash bytea NOT NULL,
    changed_at timestamptz NOT NULL,
    removed_at timestamptz
);

-- What a removal looks through.
CREATE INDEX products_by_supplier ON products (supplier_code) WHERE removed_at IS NULL;
CREATE INDEX product_variants_by_product ON product_variants (product_sku) WHERE removed_at IS NULL;
CREATE INDEX media_links_by_product ON media_links (product_sku) WHERE removed_at IS NULL;

ALTER TABLE suppliers ENABLE ROW LEVEL SECURITY;
ALTER TABLE products ENABLE ROW LEVEL SECURITY;
ALTER TABLE product_texts ENABLE ROW LEVEL SECURITY;
ALTER TABLE product_prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE product_variants ENABLE ROW LEVEL SECURITY;
ALTER TABLE product_categories ENABLE ROW LEVEL SECURITY;
ALTER TABLE media ENABLE ROW LEVEL SECURITY;
ALTER TABLE media_links ENABLE ROW LEVEL SECURITY;
