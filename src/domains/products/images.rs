//! Where the images of a document belong.
//!
//! A document names each image once in every language. A place is taken by an address once, whatever the language:
//!
//! ```text
//! product/A23-1/primary_image/0            the first language that has one
//! product-variant/A23-1-2/gallery_images/3 all addresses of all languages, in their order, each once
//! ```
//!
//! It looks at no image.

use serde_json::value::RawValue;

use crate::domains::products::document::{Language, Picture, Record, read};
use crate::domains::products::model::{EntityType, Field, Image, Sku};
use crate::domains::products::values::{self, Raw};

/// Languages that are looked through first; all others follow in the order of their names.
const LANGUAGES: [&str; 4] = ["en", "de", "nl", "fr"];
/// A key of an index in PostgreSQL has at most 2704 bytes; the place and the kind stand beside the address.
const URL_MAX: usize = 2_000;
/// Images of one family; the largest known has 48 variants with a handful each.
const IMAGES_MAX: usize = 5_000;

/// What a document says of images.
#[derive(Debug, Default)]
pub struct Found {
    pub images: Vec<Image>,
    /// Images, lists of them and languages that nobody can read: any place that stands may be one of theirs.
    pub unread: u64,
}

/// The images of a family and its variants. A variant that does not fit has none; that it does not is said when it
/// becomes rows.
pub fn of(text: &str, sku: &Sku) -> serde_json::Result<Found> {
    let family: Record<'_> = serde_json::from_str(text)?;
    let mut found = Found::default();
    take(&mut found, EntityType::Product, sku, family.product_details);
    for child in family.child_products.iter().flatten() {
        let Ok(variant) = read::<Record<'_>>(child) else { continue };
        let sku = values::text(variant.sku).ok().flatten().and_then(|sku| Sku::parse(&sku));
        if let Some(sku) = sku {
            take(&mut found, EntityType::ProductVariant, &sku, variant.product_details);
        }
    }
    found.unread += found.images.len().saturating_sub(IMAGES_MAX) as u64;
    found.images.truncate(IMAGES_MAX);
    Ok(found)
}

fn take(found: &mut Found, entity_type: EntityType, entity: &Sku, details: Raw<'_>) {
    let Found { images, unread } = found;
    let mut readable = |ok: bool| *unread += u64::from(!ok);
    let mut languages: Vec<(String, Language<'_>)> = Vec::new();
    let fields = values::fields(details);
    readable(fields.is_ok());
    for (name, texts) in fields.unwrap_or_default() {
        let Some(texts) = texts else { continue };
        let language = read(texts);
        readable(language.is_ok());
        languages.extend(language.ok().map(|texts| (name.to_ascii_lowercase(), texts)));
    }
    languages.sort_by_key(|(name, _)| LANGUAGES.iter().position(|known| known == name).unwrap_or(LANGUAGES.len()));

    let mut put = |field, index: usize, (image_url, file_name): (String, Option<String>)| {
        let (entity, index) = (entity.clone(), u32::try_from(index).unwrap_or(u32::MAX));
        images.push(Image {
            image_url,
            file_name,
            entity_type,
            entity,
            field,
            index,
            product_hash: None,
            force: false,
        });
    };
    let mut pictures = |raws: Vec<&RawValue>| {
        let read = raws.into_iter().map(picture).inspect(|picture| readable(picture.is_ok()));
        read.filter_map(|picture| picture.ok().flatten()).collect::<Vec<_>>()
    };
    let primaries = pictures(languages.iter().filter_map(|(_, texts)| texts.image).collect());
    let mut gallery: Vec<(String, Option<String>)> = Vec::new();
    let mut first: Option<(String, Option<String>)> = None;
    for primary in primaries {
        match &first {
            None => first = Some(primary),
            Some(first) if first.0 == primary.0 => {}
            // A language with an image of its own: it is not lost.
            Some(_) => gallery.push(primary),
        }
    }
    let mut lists = 0;
    for (_, texts) in &languages {
        match values::list(texts.media_gallery_images) {
            Ok(list) => gallery.extend(pictures(list)),
            Err(_) => lists += 1,
        }
    }
    *unread += lists;
    if let Some(first) = first {
        put(Field::PrimaryImage, 0, first);
    }
    let mut seen = std::collections::HashSet::new();
    let gallery = gallery.into_iter().filter(|(url, _)| seen.insert(url.clone()));
    for (index, image) in gallery.enumerate() {
        put(Field::GalleryImages, index, image);
    }
}

/// Its address and name; `None` without an address.
fn picture(raw: &RawValue) -> Result<Option<(String, Option<String>)>, String> {
    let Some(Picture { url, file_name }) = read(raw)? else { return Ok(None) };
    let Some(url) = values::text(url)? else { return Ok(None) };
    let url = url.trim().to_owned();
    if url.len() > URL_MAX {
        return Err(format!("an address of {} bytes", url.len()));
    }
    Ok(Some((url, values::text(file_name).ok().flatten())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn places(document: serde_json::Value) -> Vec<(String, String)> {
        let found = of(&document.to_string(), &Sku::parse("A1-1").unwrap()).unwrap();
        assert_eq!(found.unread, 0, "{document}");
        found.images.into_iter().map(|image| (image.slot(), image.image_url)).collect()
    }

    fn pair(slot: &str, url: &str) -> (String, String) {
        (slot.to_owned(), url.to_owned())
    }

    #[test]
    fn an_image_of_several_languages_takes_its_place_once() {
        let image = |url: &str| json!({ "Url": url, "FileName": "f.jpg" });
        let found = places(json!({
            "Sku": "A1-1",
            "ProductDetails": {
                "de": { "Image": image("u1"), "MediaGalleryImages": [image("g1"), image("g2")] },
                "en": { "Image": image("u1"), "MediaGalleryImages": [image("g2"), image("g1"), image("g3"), null] },
                "nl": null,
            },
            "ChildProducts": [
                { "Sku": "A1-1-2", "ProductDetails": { "fr": { "Image": image("u2"), "MediaGalleryImages": null } } },
                { "Sku": "bad sku", "ProductDetails": { "fr": { "Image": image("u3") } } },
                7,
            ],
        }));
        assert_eq!(
            found,
            [
                pair("product/A1-1/primary_image/0", "u1"),
                pair("product/A1-1/gallery_images/0", "g2"),
                pair("product/A1-1/gallery_images/1", "g1"),
                pair("product/A1-1/gallery_images/2", "g3"),
                pair("product-variant/A1-1-2/primary_image/0", "u2"),
            ]
        );
    }

    #[test]
    fn a_language_with_another_image_keeps_it_in_the_gallery() {
        let found = places(json!({
            "ProductDetails": { "de": { "Image": { "Url": "de" } }, "en": { "Image": { "Url": "en" } } },
        }));
        assert_eq!(found, [pair("product/A1-1/primary_image/0", "en"), pair("product/A1-1/gallery_images/0", "de")]);
    }

    #[test]
    fn what_nobody_can_read_is_counted() {
        let long = json!({ "Url": format!("https://h/{}", "x".repeat(URL_MAX)) });
        for (details, images) in [
            (json!(7), 0),
            (json!({ "en": 7, "de": { "Image": { "Url": "u" } } }), 1),
            (json!({ "en": { "Image": "u" } }), 0),
            (json!({ "en": { "Image": { "Url": ["u"] }, "MediaGalleryImages": [{ "Url": "u" }] } }), 1),
            (json!({ "en": { "Image": long } }), 0),
            (json!({ "en": { "MediaGalleryImages": "u" } }), 0),
            (json!({ "en": { "MediaGalleryImages": [{ "Url": "u" }, 7] } }), 1),
        ] {
            let document = json!({ "ProductDetails": details }).to_string();
            let found = of(&document, &Sku::parse("A1-1").unwrap()).unwrap();
            assert_eq!((found.images.len(), found.unread), (images, 1), "{document}");
        }
    }

    #[test]
    fn none_are_none() {
        for document in [
            json!({}),
            json!({ "ProductDetails": null }),
            json!({ "ProductDetails": { "en": { "Image": { "Url": "" } } } }),
        ] {
            assert_eq!(places(document), []);
        }
        assert!(of("<html>", &Sku::parse("A1-1").unwrap()).is_err());
    }
}
