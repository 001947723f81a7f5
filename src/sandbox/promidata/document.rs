//! The document of a family, in the shape that is recorded: one file with all variants inside.
//!
//! ```text
//! family ─ texts by language, lowest price, category
//! └─ ChildProducts[] ─ texts, images, configuration ─ prices by region ─ measures ─ places to print on
//! ```
//!
//! Prices are floats, as they are in the feed: the shortest text of a float that is a number of thousandths is exact.

use actix_web::web::Bytes;
use serde_json::{Map, Value, json};

use super::family::{Family, Ladder, Tier, Trap, Variant};
use super::feed::Feed;
use super::words::{
    COLOUR, COMPLIANCE, DESCRIPTION, FRONT, LANGUAGES, LOOSE, MATERIAL, MATERIAL_VALUE, PACKAGING, PRINT, SETUP, SIZE,
    Word,
};

pub fn render(family: &Family, feed: &Feed, origin: &str) -> Bytes {
    let document = Document { family, feed, origin };
    Bytes::from(document.root().to_string())
}

struct Document<'a> {
    family: &'a Family,
    feed: &'a Feed,
    origin: &'a str,
}

impl Document<'_> {
    fn root(&self) -> Value {
        let family = self.family;
        let variants = family.variants();
        let first = &variants[0];
        let lowest = first.ladders.iter().map(|ladder| {
            let last = |tiers: &[Tier]| tiers.last().map(|&tier| vec![tier]).unwrap_or_default();
            Ladder { region: ladder.region, selling: last(&ladder.selling), buying: last(&ladder.buying) }
        });
        let defaults = first.ladders.iter().map(|ladder| (ladder.region.to_owned(), json!(first.sku)));
        let mut root = self.common(&prices(lowest), &family.sku(), &family.supplier_sku());
        root.insert("ProductDetails".to_owned(), self.by_language(|language| self.details(language, first, true)));
        root.insert("NonLanguageDependedProductDetails".to_owned(), self.root_measures());
        root.insert("DefaultProducts".to_owned(), Value::Object(defaults.collect()));
        root.insert("ChildHasErrors".to_owned(), json!(false));
        root.insert("ImprintReferences".to_owned(), Value::Null);
        root.insert("ImprintPositions".to_owned(), Value::Null);
        root.insert("Ean".to_owned(), Value::Null);
        root.insert("ChildProducts".to_owned(), variants.iter().map(|variant| self.child(variant)).collect());
        Value::Object(root)
    }

    fn child(&self, variant: &Variant) -> Value {
        let prices = prices(variant.ladders.iter());
        let sku = variant.sku.as_deref().unwrap_or_default();
        let mut child = self.common(&prices, sku, &variant.supplier_sku);
        if variant.sku.is_none() {
            match self.family.number % 3 {
                0 => drop(child.remove("Sku")),
                1 => drop(child.insert("Sku".to_owned(), Value::Null)),
                _ => {}
            }
        }
        child.insert("ProductDetails".to_owned(), self.by_language(|language| self.details(language, variant, false)));
        child.insert("NonLanguageDependedProductDetails".to_owned(), self.measures(variant));
        child.insert("ImprintPositions".to_owned(), self.imprints());
        if !self.family.is(Trap::EanAbsent) {
            child.insert("Ean".to_owned(), json!(variant.ean));
        }
        Value::Object(child)
    }

    /// What the family and its children have alike.
    fn common(&self, prices: &Value, sku: &str, supplier_sku: &str) -> Map<String, Value> {
        let (year, month, day) = self.family.released();
        let common = json!({
            "ProductCosts": null,
            "ProductPriceRegionBased": null,
            "ProductPriceCountryBased": prices,
            "SamplePriceCountryBased": null,
            "BatteryInformation": null,
            "VideoUrl": null,
            "Sku": sku,
            "SupplierSku": supplier_sku,
            "ANumber": self.family.supplier().code,
            "UnstructuredInformation": {
                "ReleaseDate": format!("{day:02}.{month:02}.{year}"),
                "LeakPrevention": if self.family.number.is_multiple_of(2) { "True" } else { "False" },
                "DeliveryTimeInDays": format!("{}", 3 + self.family.number % 12),
            },
            "ForbiddenRegions": null,
            "RequiredCertificates": null,
            "ProductCertificates": null,
            "Errors": {},
            "Warnings": {},
        });
        match common {
            Value::Object(common) => common,
            _ => Map::new(),
        }
    }

    fn by_language(&self, of: impl Fn(usize) -> Value) -> Value {
        let languages = self.family.languages().into_iter();
        Value::Object(languages.map(|language| (LANGUAGES[language].to_owned(), of(language))).collect())
    }

    /// Texts and images. The family itself shows its first child's image, no gallery and no configuration.
    fn details(&self, language: usize, variant: &Variant, root: bool) -> Value {
        let family = self.family;
        let gallery = match family.trap() {
            _ if root => Value::Null,
            Some(Trap::GalleryNull) => Value::Null,
            _ => variant.gallery.iter().map(|&number| self.image(number, variant, 'S')).collect(),
        };
        let keywords = [Value::Null, json!(""), json!("longshore, sandbox")];
        let colour = variant.colour.name[language];
        let mut loose = json!({
            "SupplierMainCategory": format!("{}/{}", MATERIAL[language], family.number % 9),
            "SupplierSearchColor": colour,
            "PMSValue": colour,
        });
        if family.supplier().hex {
            loose["HexColor"] = json!(variant.colour.hex);
        }
        let fields = family.supplier().configurations.iter().map(|&name| {
            let (label, value) =
                if name == "Size" { (SIZE[language], variant.size) } else { (COLOUR[language], colour) };
            json!({ "ConfigurationName": name, "ConfigurationNameTranslated": label, "ConfigurationValue": value })
        });
        let information =
            |label: &Word, value: &str| json!({ "InformationLabel": label[language], "InformationValue": value });
        json!({
            "Name": family.name(language),
            "Description": DESCRIPTION[language],
            "ShortDescription": null,
            "MetaName": null,
            "MetaDescription": null,
            "MetaKeywords": keywords[family.number as usize % 3],
            "Image": self.image(variant.primary, variant, 'B'),
            "MediaGalleryImages": gallery,
            "InformationFiles": if root { Value::Null } else { json!([]) },
            "IsActive": true,
            "ConfigurationFields": if root { Value::Null } else { fields.collect() },
            "UnstructuredInformation": loose,
            "WebShopInformation": {
                "Material": information(&MATERIAL, MATERIAL_VALUE[language]),
                "Compliance": information(&COMPLIANCE, "EN 71-3"),
                "PackagingInformation": information(&PACKAGING, LOOSE[language]),
            },
            "PIMV1Information": null,
            "ImportantInformation": null,
        })
    }

    fn image(&self, number: u32, variant: &Variant, kind: char) -> Value {
        let url = self.feed.image_url(self.origin, number);
        let extension = url.rsplit('.').next().unwrap_or_default();
        let file = format!("{}__{kind}_{}__{number:08x}.{extension}", variant.supplier_sku, number % 7);
        json!({ "Url": url, "Description": "", "FileName": file })
    }

    fn root_measures(&self) -> Value {
        json!({
            "LogoToolImageDefined": null,
            "SearchColor": "Undefined",
            "HexColor": null,
            "Fragile": false,
            "Category": self.family.category().join("/"),
            "SecondaryCategories": self.family.secondary(),
            "CountryOfOrigin": null,
            "ProductFiltersByGroup": null,
            "Weight": 0,
            "DimensionsLength": 0,
            "DimensionsHeight": 0,
            "DimensionsDiameter": 0,
            "DimensionsWidth": 0,
            "DimensionsDepth": 0,
            "Brand": if self.family.number.is_multiple_of(4) { "" } else { "Långshore" },
            "USBItem": false,
            "CustomsTariffNumber": null,
        })
    }

    fn measures(&self, variant: &Variant) -> Value {
        let family = self.family;
        let mut measures = self.root_measures();
        let filters = family.filters();
        let filters: Map<String, Value> = filters.into_iter().map(|name| (name.to_owned(), json!("True"))).collect();
        let tariff = (!family.number.is_multiple_of(5)).then(|| format!("42{:08}", family.number));
        let own = json!({
            "SearchColor": variant.colour.search,
            "CountryOfOrigin": family.country_written(),
            "ProductFiltersByGroup": if filters.is_empty() { Value::Null } else { Value::Object(filters) },
            "SecondaryCategories": null,
            "Weight": family.weight(),
            "DimensionsLength": 100 + family.weight() / 3,
            "DimensionsHeight": 40 + family.weight() / 5,
            "DimensionsWidth": 25 + family.weight() / 7,
            "CustomsTariffNumber": tariff,
        });
        merge(&mut measures, own);
        if let Some((net, gross)) = family.carton() {
            let number = |tenths: u32| f64::from(tenths) / 10.0;
            // Whole kilograms have no decimals in text.
            let point = if family.is(Trap::DecimalPoint) { "." } else { "," };
            let text = |tenths: u32| format!("{}", number(tenths)).replace('.', point);
            merge(
                &mut measures,
                json!({
                    "OuterCartonLengthCM": 48.0,
                    "OuterCartonWidthCM": 36.5,
                    "OuterCartonHeightCM": 40.0,
                    "OuterCartonWeightNetKG": number(net),
                    "OuterCartonWeightGrossKG": number(gross),
                    "OuterCartonQuantityPerCarton": 50,
                    "WebShopInformation": {
                        "OuterCartonDimension": "48 x 36,5 x 40 cm",
                        "OuterCartonQuantityPerCarton": "50",
                        "OuterCartonWeightNetKG": text(net),
                        "OuterCartonWeightGrossKG": text(gross),
                    },
                }),
            );
        }
        measures
    }

    /// One place with two ways to print on it, of which the second costs something to set up.
    fn imprints(&self) -> Value {
        let code = self.family.supplier().code;
        let region = self.family.supplier().region;
        let named = |word: &'static Word| self.by_language(|at| json!({ "Name": word[at], "Description": null }));
        let option = |colours: usize| {
            let sku = format!("PRINT_{colours}C");
            let print = Tier { quantity: 1, thousandths: 1_250 * colours as i64, on_request: false };
            let setup = Tier { quantity: 1, thousandths: 35_000 * colours as i64, on_request: false };
            let priced = |tier: Tier| prices([Ladder { region, selling: vec![tier], buying: Vec::new() }]);
            let cost = json!([{
                "Sku": format!("{code}-{sku}_S"),
                "SupplierSku": format!("{sku}_S"),
                "Texts": named(&SETUP),
                "ProductPriceRegionBased": null,
                "ProductPriceCountryBased": priced(setup),
                "IsActiveRegionBased": null,
                "IsActiveCountryBased": null,
                "CalculationType": "Unique",
                "CalculationAmount": 1,
                "Requirement": null,
                "UnstructuredInformation": null,
            }]);
            let mut option = json!({
                "ChildImprints": null,
                "PrintColorAsText": null,
                "Dimension": null,
                "FastEditorNumberOfColors": colours.to_string(),
                "ImprintTexts": named(&PRINT),
                "Sku": format!("{code}-{sku}"),
                "SupplierSku": sku,
                "DimensionsHeight": 0,
                "DimensionsDiameter": 0,
                "DimensionsWidth": 0,
                "DimensionsDepth": 0,
                "ImprintType": null,
                "UnstructuredInformation": null,
                "ProductPriceRegionBased": null,
                "ProductPriceCountryBased": priced(print),
                "PrintColor": 0,
                "ImprintCosts": if colours > 1 { cost } else { Value::Null },
                "IsActiveRegionBased": null,
                "IsActiveCountryBased": null,
                "ImportantInformation": null,
            });
            if colours > 1 {
                option["SupplierPrintCode"] = json!("Print OS");
            }
            option
        };
        let drawing = json!([{ "Url": self.feed.image_url(self.origin, 0), "Description": null, "FileName": null }]);
        json!([{
            "PositionCode": "front_120x90mm",
            "ImprintLocationTexts":
                self.by_language(|at| json!({ "Images": drawing, "Name": FRONT[at], "Description": null })),
            "UnstructuredInformation": { "MaxPrintArea": "120 x 90 mm" },
            "ImprintOptions": [option(1), option(2)],
            "SupplierPositionCode": "front",
        }])
    }
}

/// Puts the keys of the second over those of the first.
fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn prices<L: std::borrow::Borrow<Ladder>>(ladders: impl IntoIterator<Item = L>) -> Value {
    let tiers = |tiers: &[Tier]| -> Value {
        let tier = |tier: &Tier| {
            let price = tier.thousandths as f64 / 1_000.0;
            json!({ "Price": price, "Quantity": tier.quantity, "OnRequest": tier.on_request, "Valuta": "EURO" })
        };
        tiers.iter().map(tier).collect()
    };
    let region = |ladder: L| {
        let ladder = ladder.borrow();
        let prices = json!({
            "RecommendedSellingPrice": tiers(&ladder.selling),
            "GeneralBuyingPrice": tiers(&ladder.buying),
            "QuantityIncrements": 1,
            "VatPercentage": 0,
            "MinimumOrderQuantity": 1,
            "VatSettingId": 1,
        });
        (ladder.region.to_owned(), prices)
    };
    Value::Object(ladders.into_iter().map(region).collect())
}
