//! Transform: what came becomes rows, files and child jobs. Pure computation.
//!
//! ```text
//! Suppliers ─▶ suppliers, one products.supplier each      Family ─▶ see `family`, one products.image a place
//! Supplier ─▶ its row, one products.family each changed   Image ─▶ the file, media, media_links
//! Categories ─▶ see `categories`
//! ```

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use longshore_actors::domain::Transformed;
use longshore_actors::job::Fault;
use longshore_actors::stage::Stage;

use crate::domains::products::model::{Answer, Code, Families, Family, File, Image, Listed, Orders, Placed, Sku};
use crate::domains::products::plan::{FIRST_IMAGE, REPEATED_IMAGE, family_job, image_job, supplier_job};
use crate::domains::products::tables::{MEDIA, MEDIA_LINKS, SUPPLIERS};
use crate::domains::products::{Settings, categories, family, picture};
use crate::store::batch::{Batch, Cell, Object, Rows};
use crate::upstreams::Validators;

pub struct Transform {
    settings: Settings,
}

impl Stage for Transform {
    type Settings = Settings;
    type Input = Answer;
    type Output = Transformed<Batch>;

    async fn open(settings: &Settings) -> Result<Self, Fault> {
        Ok(Self { settings: settings.clone() })
    }

    async fn run(&mut self, answer: Arc<Answer>) -> Result<Transformed<Batch>, Fault> {
        transform(&self.settings, &answer)
    }
}

fn transform(settings: &Settings, answer: &Answer) -> Result<Transformed<Batch>, Fault> {
    match answer {
        Answer::Suppliers { suppliers, orders } => Ok(all_suppliers(settings, suppliers, *orders)),
        Answer::Supplier(families) => Ok(one_supplier(settings, families)),
        Answer::Unchanged => Ok(Transformed::new(Batch::default(), 0)),
        Answer::Categories { text } => categories::transform(text).map(|(done, _)| done),
        Answer::Family { family, text, images, unread } => Ok(one_family(family, text, images, *unread)),
        Answer::Image { image, product, file } => one_image(image, product, file),
    }
}

fn supplier_row(settings: &Settings, code: &Code, families: u64, version: &Validators) -> Vec<Cell> {
    let text = |text: &Option<String>| text.clone().map_or(Cell::Null, Cell::Text);
    vec![
        Cell::Text(code.to_string()),
        Cell::Bool(settings.is_active(code)),
        Cell::Int(i64::try_from(families).unwrap_or(i64::MAX)),
        text(&version.etag),
        text(&version.last_modified),
    ]
}

fn all_suppliers(settings: &Settings, suppliers: &[Listed], orders: Orders) -> Transformed<Batch> {
    let mut rows = Rows::new(&SUPPLIERS);
    for Listed { code, families, version } in suppliers {
        rows.push(supplier_row(settings, code, *families, version), Vec::new());
    }
    let active = suppliers.iter().filter(|listed| settings.is_active(&listed.code));
    let children = active.map(|listed| supplier_job(&listed.code, orders)).collect();
    let batch = Batch { rows: vec![rows], ..Batch::default() };
    Transformed { children, ..Transformed::new(batch, suppliers.len() as u64) }
}

fn one_supplier(settings: &Settings, families: &Families) -> Transformed<Batch> {
    let Families { code, received, seen, changed, rejects, version } = families;
    let mut rows = Rows::new(&SUPPLIERS);
    if *received > 0 {
        let version = version.clone().unwrap_or_default();
        rows.push(supplier_row(settings, code, *received, &version), Vec::new());
    }
    let children = changed.iter().map(family_job).collect();
    let batch = Batch { rows: vec![rows], seen: seen.clone(), ..Batch::default() };
    Transformed { children, rejects: rejects.clone(), ..Transformed::new(batch, *received) }
}

fn one_family(family: &Family, text: &str, images: &[Placed], unread: u64) -> Transformed<Batch> {
    let mut done = family::transform(family, text, images, unread);
    if done.batch.rows.is_empty() {
        return done;
    }
    let mut addresses = HashSet::new();
    let asked = images.iter().filter(|placed| !placed.stands).map(|placed| {
        let first = addresses.insert(placed.image.image_url.as_str());
        let image = Image { product_hash: Some(family.product_hash.clone()), ..placed.image.clone() };
        image_job(&image, if first { FIRST_IMAGE } else { REPEATED_IMAGE })
    });
    done.children = asked.collect();
    done
}

fn one_image(image: &Image, product: &Sku, file: &File) -> Result<Transformed<Batch>, Fault> {
    let mut batch = Batch::default();
    let object_key = match file {
        File::Known { object_key } => object_key.clone(),
        File::New(bytes) => {
            let (object, row) = put(&image.image_url, bytes)?;
            let key = object.key.clone();
            let mut media = Rows::new(&MEDIA);
            media.push(row, Vec::new());
            batch.rows.push(media);
            batch.objects.push(object);
            key
        }
    };
    let mut links = Rows::new(&MEDIA_LINKS);
    let cells = vec![
        Cell::Text(image.slot()),
        Cell::Text(product.to_string()),
        Cell::Text(image.entity_type.as_str().to_owned()),
        Cell::Text(image.entity.to_string()),
        Cell::Text(image.field.as_str().to_owned()),
        Cell::Int(image.index.into()),
        Cell::Text(image.image_url.clone()),
        Cell::Text(object_key),
        image.file_name.clone().map_or(Cell::Null, Cell::Text),
    ];
    links.push(cells, Vec::new());
    batch.rows.push(links);
    Ok(Transformed::new(batch, 1))
}

/// The file and its row. Its key is made from the content: the same picture under two addresses is one file.
fn put(url: &str, bytes: &Bytes) -> Result<(Object, Vec<Cell>), Fault> {
    let kind = picture::kind(bytes).map_err(Fault::fail)?;
    let hash = blake3::hash(bytes).to_hex().to_string();
    let key = format!("media/{}/{hash}.{}", &hash[..2], kind.extension);
    let size = picture::size(kind, bytes);
    let pixels = |pixels: Option<u32>| pixels.map_or(Cell::Null, |pixels| Cell::Int(pixels.into()));
    let row = vec![
        Cell::Text(url.to_owned()),
        Cell::Text(key.clone()),
        Cell::Text(hash),
        Cell::Text(kind.content_type.to_owned()),
        Cell::Int(bytes.len() as i64),
        pixels(size.map(|(width, _)| width)),
        pixels(size.map(|(_, height)| height)),
        Cell::Bool(kind.attachment),
    ];
    let content_type = kind.content_type.to_owned();
    Ok((Object { key, content_type, bytes: bytes.clone() }, row))
}
