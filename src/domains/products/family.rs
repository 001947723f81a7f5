//! A family's document becomes rows, or rejects with a reason. Pure computation.
//!
//! ```text
//! document ─┬─▶ products ─┬─ product_texts    of the family (variant_sku '') and of each variant
//!           │             └─ product_prices
//!           ├─▶ product_variants
//!           └─▶ removals: the variants and image places that this document no longer has
//! ```
//!
//! The document is complete in itself, so what it does not have is removed without a guard. Its hash of the list stands
//! in the family's row, written in the same transaction: a family is in step or it is not.
//!
//! A variant that does not fit is put aside alone. A value that does not fit is left out: its record is kept without
//! it, and one reject of the record says which.

use std::collections::BTreeMap;

use longshore_actors::domain::Transformed;
use longshore_actors::ledger::Reject;
use rust_decimal::Decimal;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::domains::iso;
use crate::domains::products::document::{Configuration, Details, Information, Language, Record, Region, read};
use crate::domains::products::model::{self, Placed, Sku};
use crate::domains::products::prices::{Price, tier};
use crate::domains::products::tables::{MEDIA_LINKS, PRODUCTS, VARIANTS};
use crate::domains::products::values::{self, Raw, date, decimal, flag, int, measure, quoted, text};
use crate::store::batch::{Batch, Cell, Guard, Removal, Rows};

/// Bytes of a record that a reject keeps: enough to see what is wrong, and not the 850 KB of the largest family.
const RAW_MAX: usize = 64 * 1024;

type Cells = Vec<Cell>;

/// The rows of a family. `images` are the places its document fills, `unread` what may be more of them.
pub fn transform(family: &model::Family, document: &str, images: &[Placed], unread: u64) -> Transformed<Batch> {
    let record: Record<'_> = match checked(family, document) {
        Ok(record) => record,
        Err(reason) => {
            let reject = Reject { key: Some(family.sku.to_string()), reason, raw: cut(document) };
            return Transformed { rejects: vec![reject], ..Transformed::new(Batch::default(), 1) };
        }
    };
    let mut page = Page::new(family);
    let mut left_out = LeftOut::default();
    let facts = facts(&record, &mut left_out);
    let defaults = left_out.take("DefaultProducts", defaults(record.default_products)).unwrap_or_default();
    page.details("", &record, &mut left_out);
    if unread > 0 {
        left_out.say(format!("{unread} images or lists of images: nobody can read them"));
    }
    page.left_out(family.sku.as_str(), left_out, document);
    for child in record.child_products.iter().flatten() {
        page.variant(child);
    }
    let Page { variants, texts, prices, mut seen, mut rejects, .. } = page;
    let count = i64::try_from(variants.len()).unwrap_or(i64::MAX);
    let mut cells = vec![
        Cell::Text(family.sku.to_string()),
        Cell::Text(family.supplier_code.to_string()),
        Cell::Text(family.product_hash.clone()),
        Cell::Int(count),
        Cell::Json(Value::Object(defaults).to_string()),
    ];
    cells.extend(facts);
    cells.push(Cell::Json(document.to_owned()));
    let mut products = Rows::new(&PRODUCTS);
    products.push(cells, vec![texts.into_values().collect(), prices.into_values().collect()]);

    let received = 1 + record.child_products.as_ref().map_or(0, Vec::len) as u64;
    seen.extend(images.iter().map(|placed| placed.image.slot()));
    // Without its list of variants a document says nothing of which there are.
    let unknown = u64::from(record.child_products.is_none());
    let scope = || ("product_sku", family.sku.to_string());
    let guard = Guard { rows: 0, ratio: 0.0, lifted: true };
    let removal = |table, key, missing| Removal {
        table,
        scope: scope(),
        key,
        missing,
        guard,
        orphans: None,
        named_by: None,
        owned: &[],
    };
    // A variant without a readable key may be any of those that stand, and whose record does not fit may have images.
    let nameless = rejects.iter().filter(|reject| reject.key.is_none()).count() as u64;
    let unfit = rejects.len() as u64;
    let removals = vec![removal(&VARIANTS, "sku", unknown + nameless), removal(&MEDIA_LINKS, "slot", unknown + unfit)];
    rejects.truncate(received as usize);
    let rows = vec![products, variants];
    Transformed { rejects, ..Transformed::new(Batch { rows, seen, removals, ..Batch::default() }, received) }
}

/// The record, if it is the one that the list speaks of.
fn checked<'a>(family: &model::Family, document: &'a str) -> Result<Record<'a>, String> {
    let record: Record<'a> = serde_json::from_str(document).map_err(|error| format!("does not fit: {error}"))?;
    let said = |raw| text(raw).ok().flatten().unwrap_or_default();
    let (sku, supplier) = (said(record.sku), said(record.a_number));
    if sku != family.sku.as_str() {
        return Err(format!("the document is of {}, the list says {}", quoted(&sku), family.sku));
    }
    if !supplier.eq_ignore_ascii_case(family.supplier_code.as_str()) {
        return Err(format!("the supplier (ANumber) is {}, the list says {}", quoted(&supplier), family.supplier_code));
    }
    Ok(record)
}

/// The rows as they come together.
struct Page<'a> {
    family: &'a model::Family,
    variants: Rows,
    /// By variant and language.
    texts: BTreeMap<(String, String), Cells>,
    /// By variant, kind, region and quantity.
    prices: BTreeMap<(String, &'static str, String, i64), Cells>,
    seen: Vec<String>,
    rejects: Vec<Reject>,
}

impl<'a> Page<'a> {
    fn new(family: &'a model::Family) -> Self {
        let (texts, prices, seen, rejects) = Default::default();
        Self { family, variants: Rows::new(&VARIANTS), texts, prices, seen, rejects }
    }

    fn variant(&mut self, raw: &RawValue) {
        let record: Record<'_> = match read(raw) {
            Ok(record) => record,
            Err(reason) => {
                let key = serde_json::from_str::<Map<String, Value>>(raw.get()).ok();
                let key = key.and_then(|fields| Some(fields.get("Sku")?.as_str()?.to_owned()));
                return self.reject(key, reason, raw);
            }
        };
        let sku = match text(record.sku) {
            Ok(Some(sku)) => sku,
            Ok(None) => return self.reject(None, "a variant without Sku".to_owned(), raw),
            Err(reason) => return self.reject(None, format!("Sku {reason}"), raw),
        };
        if Sku::parse(&sku).is_none() {
            return self.reject(Some(sku.clone()), format!("{} is no SKU", quoted(&sku)), raw);
        }
        if let Ok(Some(supplier)) = text(record.a_number)
            && !supplier.eq_ignore_ascii_case(self.family.supplier_code.as_str())
        {
            let reason = format!(
                "the supplier (ANumber) is {}, the family's is {}",
                quoted(&supplier),
                self.family.supplier_code
            );
            return self.reject(Some(sku), reason, raw);
        }
        let mut left_out = LeftOut::default();
        let mut cells = vec![Cell::Text(sku.clone()), Cell::Text(self.family.sku.to_string())];
        cells.extend(facts(&record, &mut left_out));
        self.details(&sku, &record, &mut left_out);
        self.variants.push(cells, Vec::new());
        self.left_out(&sku, left_out, raw.get());
        self.seen.push(sku);
    }

    /// Texts and prices of the family (`variant` is empty) or of a variant.
    fn details(&mut self, variant: &str, record: &Record<'_>, left_out: &mut LeftOut) {
        let languages = left_out.fields("ProductDetails", record.product_details);
        for (language, raw) in languages {
            let Some(raw) = raw else { continue };
            let Some(name) = language_tag(&language) else {
                left_out.say(format!("the texts in {}, which is no language", quoted(&language)));
                continue;
            };
            let Some(texts) = left_out.take(&language, read::<Language<'_>>(raw)) else { continue };
            let own = [self.family.sku.as_str(), variant, &name].map(|cell| Cell::Text(cell.to_owned()));
            let cells = own.into_iter().chain(language_cells(&texts, left_out)).collect();
            self.texts.insert((variant.to_owned(), name), cells);
        }
        let regions = left_out.fields("ProductPriceCountryBased", record.product_price_country_based);
        for (region, raw) in regions {
            let Some(raw) = raw else { continue };
            let Some(prices) = left_out.take(&region, read::<Region<'_>>(raw)) else { continue };
            for (kind, tiers) in
                [("selling", prices.recommended_selling_price), ("buying", prices.general_buying_price)]
            {
                self.ladder((variant, kind, &region), tiers, &prices, left_out);
            }
        }
    }

    fn ladder(
        &mut self,
        (variant, kind, region): (&str, &'static str, &str),
        tiers: Raw<'_>,
        prices: &Region<'_>,
        left_out: &mut LeftOut,
    ) {
        let what = format!("{kind} price {region}");
        let minimum = left_out.keep("MinimumOrderQuantity", int(prices.minimum_order_quantity));
        let increment = left_out.keep("QuantityIncrements", int(prices.quantity_increments));
        let vat = left_out.keep("VatPercentage", decimal(prices.vat_percentage));
        for raw in left_out.take(&what, values::list(tiers)).unwrap_or_default() {
            let Some(Price { quantity, price, currency, on_request }) = left_out.take(&what, tier(raw)) else {
                continue;
            };
            let cells = vec![
                Cell::Text(self.family.sku.to_string()),
                Cell::Text(variant.to_owned()),
                Cell::Text(kind.to_owned()),
                Cell::Text(region.to_owned()),
                Cell::Int(quantity),
                price.map_or(Cell::Null, Cell::Decimal),
                Cell::Text(currency),
                Cell::Bool(on_request),
                minimum.map_or(Cell::Null, Cell::Int),
                increment.map_or(Cell::Null, Cell::Int),
                vat.map_or(Cell::Null, Cell::Decimal),
            ];
            self.prices.insert((variant.to_owned(), kind, region.to_owned(), quantity), cells);
        }
    }

    /// A variant that becomes no row. It was seen nevertheless: what stands under its key is not removed.
    fn reject(&mut self, key: Option<String>, reason: String, raw: &RawValue) {
        self.seen.extend(key.clone());
        self.rejects.push(Reject { key, reason, raw: cut(raw.get()) });
    }

    fn left_out(&mut self, key: &str, LeftOut(left_out): LeftOut, raw: &str) {
        if !left_out.is_empty() {
            let reason = format!("kept without: {}", left_out.join("; "));
            self.rejects.push(Reject { key: Some(key.to_owned()), reason, raw: cut(raw) });
        }
    }
}

/// What a record is kept without, each in words.
#[derive(Default)]
struct LeftOut(Vec<String>);

impl LeftOut {
    fn say(&mut self, what: String) {
        if !self.0.contains(&what) {
            self.0.push(what);
        }
    }

    fn take<T>(&mut self, what: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|reason| self.say(format!("{what}: {reason}"))).ok()
    }

    fn keep<T>(&mut self, what: &str, result: Result<Option<T>, String>) -> Option<T> {
        self.take(what, result).flatten()
    }

    fn fields<'a>(&mut self, what: &str, raw: Raw<'a>) -> BTreeMap<String, Raw<'a>> {
        self.take(what, values::fields(raw)).unwrap_or_default()
    }

    fn text(&mut self, what: &str, raw: Raw<'_>) -> Cell {
        self.keep(what, text(raw)).map_or(Cell::Null, Cell::Text)
    }

    fn measure(&mut self, what: &str, raw: Raw<'_>) -> Cell {
        self.keep(what, measure(raw)).map_or(Cell::Null, Cell::Decimal)
    }
}

/// What families and variants have in common, in the order of their tables.
fn facts(record: &Record<'_>, left_out: &mut LeftOut) -> Cells {
    let none = Details::default();
    let details = record.non_language_depended_product_details.as_ref().unwrap_or(&none);
    let unstructured = unstructured(record, left_out);
    let free = |key: &str| unstructured.get(key).copied().flatten();
    let shop = left_out.fields("WebShopInformation", details.web_shop_information);
    // The number itself, or else what the shop is to show for it.
    let or_shop = |raw: Raw<'_>, key: &str| match measure(raw) {
        Ok(None) => measure(shop.get(key).copied().flatten()),
        found => found,
    };
    let net = or_shop(details.outer_carton_weight_net_kg, "OuterCartonWeightNetKG");
    let gross = or_shop(details.outer_carton_weight_gross_kg, "OuterCartonWeightGrossKG");
    let search_color = left_out.keep("SearchColor", text(details.search_color)).filter(|color| color != "Undefined");
    let country = left_out.keep("CountryOfOrigin", text(details.country_of_origin));
    let hex = details.hex_color.or_else(|| free("HexColor"));
    let decimal = |number: Option<Decimal>| number.map_or(Cell::Null, Cell::Decimal);
    vec![
        left_out.text("SupplierSku", record.supplier_sku),
        left_out.text("Ean", record.ean),
        left_out.text("Brand", details.brand),
        left_out.text("Category", details.category),
        Cell::Json(secondary(left_out, details.secondary_categories)),
        search_color.map_or(Cell::Null, Cell::Text),
        left_out.keep("HexColor", hex_color(hex)).map_or(Cell::Null, Cell::Text),
        country.as_deref().and_then(iso::alpha2).map_or(Cell::Null, |code| Cell::Text(code.to_owned())),
        country.map_or(Cell::Null, Cell::Text),
        left_out.text("CustomsTariffNumber", details.customs_tariff_number),
        left_out.measure("Weight", details.weight),
        left_out.measure("DimensionsLength", details.dimensions_length),
        left_out.measure("DimensionsWidth", details.dimensions_width),
        left_out.measure("DimensionsHeight", details.dimensions_height),
        left_out.measure("DimensionsDepth", details.dimensions_depth),
        left_out.measure("DimensionsDiameter", details.dimensions_diameter),
        left_out.keep("USBItem", flag(details.usb_item)).map_or(Cell::Null, Cell::Bool),
        Cell::Json(filters(left_out, details.product_filters_by_group)),
        left_out
            .keep("OuterCartonQuantityPerCarton", int(details.outer_carton_quantity_per_carton))
            .filter(|n| *n != 0)
            .map_or(Cell::Null, Cell::Int),
        decimal(left_out.keep("OuterCartonWeightNetKG", net)),
        decimal(left_out.keep("OuterCartonWeightGrossKG", gross)),
        left_out.measure("OuterCartonLengthCM", details.outer_carton_length_cm),
        left_out.measure("OuterCartonWidthCM", details.outer_carton_width_cm),
        left_out.measure("OuterCartonHeightCM", details.outer_carton_height_cm),
        left_out.keep("ReleaseDate", date(free("ReleaseDate"))).map_or(Cell::Null, Cell::Text),
        left_out.keep("DeliveryTimeInDays", int(free("DeliveryTimeInDays"))).map_or(Cell::Null, Cell::Int),
        left_out.text("VideoUrl", record.video_url),
    ]
}

/// The supplier's own fields: the record's, and those that stand within a language.
fn unstructured<'a>(record: &Record<'a>, left_out: &mut LeftOut) -> BTreeMap<String, Raw<'a>> {
    let mut fields = left_out.fields("UnstructuredInformation", record.unstructured_information);
    let languages = values::fields(record.product_details).unwrap_or_default();
    for raw in languages.into_values().flatten() {
        let texts = read::<Language<'_>>(raw).unwrap_or_default();
        for (key, value) in values::fields(texts.unstructured_information).unwrap_or_default() {
            fields.entry(key).or_insert(value);
        }
    }
    fields
}

fn language_cells(texts: &Language<'_>, left_out: &mut LeftOut) -> Cells {
    vec![
        left_out.text("Name", texts.name),
        left_out.text("ShortDescription", texts.short_description),
        left_out.text("Description", texts.description),
        left_out.text("MetaName", texts.meta_name),
        left_out.text("MetaDescription", texts.meta_description),
        left_out.text("MetaKeywords", texts.meta_keywords),
        left_out.keep("IsActive", flag(texts.is_active)).map_or(Cell::Null, Cell::Bool),
        Cell::Json(configuration(left_out, texts.configuration_fields)),
        Cell::Json(information(left_out, texts.web_shop_information)),
        Cell::Json(free_texts(left_out, texts.unstructured_information)),
    ]
}

fn configuration(left_out: &mut LeftOut, raw: Raw<'_>) -> String {
    let mut fields = Vec::new();
    for raw in left_out.take("ConfigurationFields", values::list(raw)).unwrap_or_default() {
        let Some(field) = left_out.take("ConfigurationFields", read::<Configuration<'_>>(raw)) else { continue };
        let mut said = |raw| left_out.keep("ConfigurationFields", text(raw));
        fields.push(json!({
            "name": said(field.configuration_name),
            "label": said(field.configuration_name_translated),
            "value": said(field.configuration_value),
        }));
    }
    Value::Array(fields).to_string()
}

fn information(left_out: &mut LeftOut, raw: Raw<'_>) -> String {
    let mut pieces = Map::new();
    for (key, raw) in left_out.fields("WebShopInformation", raw) {
        let Some(raw) = raw else { continue };
        let Some(piece) = left_out.take("WebShopInformation", read::<Information<'_>>(raw)) else { continue };
        let mut said = |raw| left_out.keep("WebShopInformation", text(raw));
        pieces.insert(key, json!({ "label": said(piece.information_label), "value": said(piece.information_value) }));
    }
    Value::Object(pieces).to_string()
}

fn free_texts(left_out: &mut LeftOut, raw: Raw<'_>) -> String {
    let fields = left_out.fields("UnstructuredInformation", raw).into_iter();
    let fields = fields.filter_map(|(key, raw)| Some((key.clone(), left_out.keep(&key, text(raw))?.into())));
    Value::Object(fields.collect()).to_string()
}

fn defaults(raw: Raw<'_>) -> Result<Map<String, Value>, String> {
    let regions = values::fields(raw)?.into_iter();
    regions.filter_map(|(region, raw)| Some(text(raw).transpose()?.map(|sku| (region, sku.into())))).collect()
}

fn secondary(left_out: &mut LeftOut, raw: Raw<'_>) -> String {
    let paths = left_out.take("SecondaryCategories", values::list(raw)).unwrap_or_default();
    let paths = paths.into_iter().filter_map(|path| left_out.keep("SecondaryCategories", text(Some(path))));
    Value::from(paths.collect::<Vec<String>>()).to_string()
}

fn filters(left_out: &mut LeftOut, raw: Raw<'_>) -> String {
    let filters = left_out.fields("ProductFiltersByGroup", raw).into_iter();
    let filters = filters.filter_map(|(name, raw)| Some((name.clone(), left_out.keep(&name, flag(raw))?.into())));
    Value::Object(filters.collect()).to_string()
}

/// Six digits without `#`, in capitals.
fn hex_color(raw: Raw<'_>) -> Result<Option<String>, String> {
    let Some(color) = text(raw)? else { return Ok(None) };
    let digits = color.trim().trim_start_matches('#');
    match digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(Some(digits.to_ascii_uppercase())),
        false => Err(format!("{} is no colour of six digits", quoted(&color))),
    }
}

/// `en`, `pt-br`.
fn language_tag(name: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase().replace('_', "-");
    let (language, country) = name.split_once('-').unwrap_or((&name, "xx"));
    let letters =
        |text: &str, most| (2..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase());
    (letters(language, 3) && letters(country, 4)).then_some(name)
}

/// The beginning of a text, whole characters of it.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(RAW_MAX)].to_owned()
}
