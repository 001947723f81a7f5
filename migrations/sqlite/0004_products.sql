-- Promidata's products. Times are ISO 8601 text, UTC; money and measures are exact decimal text; JSON is text.
-- A row is never deleted: `removed_at` says that the feed no longer has it.

-- One row a supplier of the list.
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

-- One row a family, by its `Sku`. What it says in languages and its prices stand in the details.
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

-- What a family and its variants say in each language. Replaced with their family.
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

-- Price ladders of a family and its variants, by region. Replaced with their family.
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

-- One row a variant, by its own `Sku`, which in a family of one is the family's too.
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

-- The tree of categories, from CAT.csv.
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

-- One row an address that was downloaded; several may lead to one file.
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

-- Which image stands where: one row a place.
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

-- What a removal looks through.
CREATE INDEX products_by_supplier ON products (supplier_code) WHERE removed_at IS NULL;
CREATE INDEX product_variants_by_product ON product_variants (product_sku) WHERE removed_at IS NULL;
CREATE INDEX media_links_by_product ON media_links (product_sku) WHERE removed_at IS NULL;
