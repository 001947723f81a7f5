//! What a job of the products comes down to: its params, read once, and the plan made from them.
//!
//! | kind | params | does |
//! | --- | --- | --- |
//! | `products.supplier` | none, or `supplier: "*"` | one `products.supplier` for each active supplier of the list |
//! | | `supplier` or `supplier_code`, `manual`, `force`, `allow_removal` | one `products.family` for each that changed |
//! | `products.family` | `sku`, `url`, `product_hash`, `supplier_code` | its rows, and one `products.image` for each place |
//! | `products.image` | `image_url`, `entity_type`, `entity`, `field`, `index`, `file_name` | the file, and its place |
//! | `products.categories` | `allow_removal` | the tree of categories |

use longshore_actors::checkpoint::Checkpoint;
use longshore_actors::domain::Plan;
use longshore_actors::job::{Fault, NewJob, UniqueScope};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::domains::products::model::{Code, EntityType, Family, Image, Orders, Request, Sku};
use crate::domains::products::tables::{CATEGORIES, MEDIA, MEDIA_LINKS, PRODUCTS, SUPPLIERS, VARIANTS};
use crate::domains::products::{CATEGORIES_KIND, FAMILY, IMAGE, NAME, PROVIDER, SUPPLIER};
use crate::store::batch::{Batch, Cell, Guard, Removal};
use crate::store::table::Table;
use crate::store::{Store, SyncState};
use crate::targets::store::fault;
use crate::upstreams::Validators;

/// Images run after families, so that rows are there before pictures; an address that comes again within one document
/// runs last, when its file is there.
pub const FIRST_IMAGE: i32 = 10;
pub const REPEATED_IMAGE: i32 = 20;

/// What goes with a family.
static OWNED: [(&Table, &str); 2] = [(&VARIANTS, "product_sku"), (&MEDIA_LINKS, "product_sku")];

/// A job's kind and params, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    Suppliers(Orders),
    Supplier { code: Code, orders: Orders },
    Family(Family),
    Image(Image),
    Categories { allow_removal: bool },
}

impl Task {
    /// Reads params; what is unknown, missing or out of range is an error that says so in one line.
    pub fn read(kind: &str, params: &Value) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Supplier {
            #[serde(default)]
            supplier: Option<String>,
            #[serde(default)]
            supplier_code: Option<String>,
            #[serde(default)]
            manual: bool,
            #[serde(default)]
            force: bool,
            #[serde(default)]
            allow_removal: bool,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Categories {
            #[serde(default)]
            allow_removal: bool,
            /// Taken and without effect.
            #[serde(default, rename = "force")]
            _force: bool,
        }
        match kind {
            SUPPLIER => {
                let Supplier { supplier, supplier_code, manual, force, allow_removal } = read(kind, params)?;
                let orders = Orders { force: force || manual, allow_removal };
                let code = match (supplier, supplier_code) {
                    (Some(one), Some(other)) if one != other => {
                        let text = format!("params of {kind}: supplier is {one:?} and supplier_code {other:?}; which?");
                        return Err(Fault::fail(text));
                    }
                    (Some(code), _) | (None, Some(code)) if code.trim() != "*" => code,
                    (_, _) => return Ok(Task::Suppliers(orders)),
                };
                let code =
                    Code::try_from(code).map_err(|text| Fault::fail(format!("params of {kind}: {text}, or *")))?;
                Ok(Task::Supplier { code, orders })
            }
            FAMILY => read(kind, params).map(Task::Family),
            IMAGE => read(kind, params).map(Task::Image),
            CATEGORIES_KIND => {
                let Categories { allow_removal, _force } = read(kind, params)?;
                Ok(Task::Categories { allow_removal })
            }
            _ => Err(Fault::fail(format!("products have no job kind {kind:?}"))),
        }
    }

    /// What it keeps in step, as `sync_state` names it. Families and images are too many for it.
    fn entity(&self) -> Option<String> {
        match self {
            Task::Suppliers(_) => Some("suppliers".to_owned()),
            Task::Supplier { code, .. } => Some(format!("supplier:{code}")),
            Task::Categories { .. } => Some("categories".to_owned()),
            Task::Family(_) | Task::Image(_) => None,
        }
    }
}

fn read<T: DeserializeOwned>(kind: &str, params: &Value) -> Result<T, Fault> {
    let params = match params {
        Value::Null => Value::Object(Map::new()),
        params @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            params.clone()
        }
    };
    if !params.is_object() {
        return Err(Fault::fail(format!("params of {kind}: expected an object, got {params}")));
    }
    serde_json::from_value(params).map_err(|error| Fault::fail(format!("params of {kind}: {error}")))
}

/// The plan of a task, with what the store knows.
pub async fn plan(task: Task, store: &dyn Store) -> Result<Plan<Request>, Fault> {
    let entity = task.entity();
    let request = match task {
        Task::Suppliers(orders) => Request::Suppliers(orders),
        Task::Supplier { code, orders } => {
            let since = if orders == Orders::default() { in_step(&code, store).await? } else { Validators::default() };
            Request::Supplier { code, orders, since }
        }
        Task::Categories { .. } => Request::Categories,
        Task::Family(family) => Request::Family(family),
        Task::Image(image) => {
            let entity = vec![Cell::Text(image.entity.to_string())];
            let (table, column) = match image.entity_type {
                EntityType::Product => (&PRODUCTS, "sku"),
                EntityType::ProductVariant => (&VARIANTS, "product_sku"),
            };
            let product = store.known(table, column, entity).await.map_err(fault)?.pop().flatten();
            let Some(product) = product.and_then(|sku| Sku::try_from(sku).ok()) else {
                let what = image.entity_type.as_str();
                return Ok(Plan::skip(format!(
                    "there is no {what} {} (any more): its image is left out",
                    image.entity
                )));
            };
            if let Some(asked) = &image.product_hash {
                let key = vec![Cell::Text(product.to_string())];
                let standing = store.known(&PRODUCTS, "feed_hash", key).await.map_err(fault)?.pop().flatten();
                if standing.as_ref() != Some(asked) {
                    return Ok(Plan::skip(format!("{product} has changed since it asked for this image: left out")));
                }
            }
            let known = store.known(&MEDIA, "object_key", vec![Cell::Text(image.image_url.clone())]).await;
            let known = known.map_err(fault)?.pop().flatten();
            Request::Image { image, product, known }
        }
    };
    let plan = Plan::pages(vec![request]);
    Ok(match entity {
        Some(entity) => plan.of(PROVIDER, entity),
        None => plan,
    })
}

/// The version of the list that the supplier is in step with, unless its last sync went wrong: then a part of it, such
/// as the removal, may be missing, and the list is read again.
async fn in_step(code: &Code, store: &dyn Store) -> Result<Validators, Fault> {
    let last = store.sync_state(PROVIDER, &format!("supplier:{code}")).await.map_err(fault)?;
    let well = |state: &SyncState| state.last_success_at.is_some() && state.last_success_at > state.last_error_at;
    if !last.as_ref().is_some_and(well) {
        return Ok(Validators::default());
    }
    let key = || vec![Cell::Text(code.to_string())];
    let etag = store.known(&SUPPLIERS, "list_etag", key()).await.map_err(fault)?.pop().flatten();
    let last_modified = store.known(&SUPPLIERS, "list_modified", key()).await.map_err(fault)?.pop().flatten();
    Ok(Validators { etag, last_modified })
}

/// The closing removal of a list that was read.
pub fn close(guard: Guard, task: &Task, checkpoint: &Checkpoint) -> Option<Batch> {
    let (table, scope, key, allowed) = match task {
        Task::Supplier { code, orders } => {
            (&PRODUCTS, ("supplier_code", code.to_string()), "sku", orders.allow_removal)
        }
        Task::Categories { allow_removal } => (&CATEGORIES, ("provider", PROVIDER.to_owned()), "code", *allow_removal),
        Task::Suppliers(_) | Task::Family(_) | Task::Image(_) => return None,
    };
    // Nothing: an answer of 304, or a list without this supplier, which is told and is no reason to remove anything.
    let total = checkpoint.total.filter(|total| *total > 0)?;
    let owned: &'static [_] = match task {
        Task::Supplier { .. } => &OWNED,
        Task::Suppliers(_) | Task::Family(_) | Task::Image(_) | Task::Categories { .. } => &[],
    };
    let missing = total.saturating_sub(checkpoint.counts.received);
    let guard = Guard { lifted: guard.lifted || allowed, ..guard };
    Some(Batch {
        removals: vec![Removal { table, scope, key, missing, guard, orphans: None, named_by: None, owned }],
        ..Batch::default()
    })
}

pub fn supplier_job(code: &Code, orders: Orders) -> NewJob {
    let mut params = json!({ "supplier_code": code });
    if orders.force {
        params["manual"] = Value::Bool(true);
    }
    if orders.allow_removal {
        params["allow_removal"] = Value::Bool(true);
    }
    // Not until its children have ended: a host of images that is down would hold up every later sync.
    NewJob::new(NAME, SUPPLIER, params).unique(format!("{SUPPLIER} {code}"), UniqueScope::UntilStarted)
}

pub fn family_job(family: &Family) -> NewJob {
    let Family { sku, url, product_hash, supplier_code, force: _ } = family;
    let params = json!({ "sku": sku, "url": url, "product_hash": product_hash, "supplier_code": supplier_code });
    NewJob::new(NAME, FAMILY, params).unique(format!("{FAMILY} {sku}"), UniqueScope::UntilStarted)
}

pub fn image_job(image: &Image, priority: i32) -> NewJob {
    let Image { image_url, file_name, entity_type, entity, field, index, product_hash, force: _ } = image;
    let mut params = json!({
        "image_url": image_url,
        "file_name": file_name,
        "entity_type": entity_type,
        "entity": entity,
        "field": field,
        "index": index,
    });
    let mut key = format!("{IMAGE} {} {image_url}", image.slot());
    if let Some(hash) = product_hash {
        params["product_hash"] = json!(hash);
        key = format!("{key} {hash}");
    }
    NewJob::new(NAME, IMAGE, params).unique(key, UniqueScope::UntilCompleted).priority(priority)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use longshore_actors::checkpoint::Counts;

    use super::*;
    use crate::domains::products::model::Field;

    fn code(text: &str) -> Code {
        Code::parse(text).unwrap()
    }

    fn family() -> Value {
        json!({ "sku": "A23-1", "url": "https://h/{profile}/A23/A23-1.json", "product_hash": "00", "supplier_code": "A23" })
    }

    fn image() -> Value {
        json!({ "image_url": "https://h/1.jpg", "file_name": "1.jpg", "entity_type": "product-variant",
                "entity": "A23-1-2", "field": "gallery_images", "index": 4 })
    }

    #[test]
    fn params_are_read_or_refused_in_one_line() {
        let (calm, forced) = (Orders::default(), Orders { force: true, ..Orders::default() });
        for (kind, params, task) in [
            (SUPPLIER, json!(null), Task::Suppliers(calm)),
            (SUPPLIER, json!({ "supplier": "*", "force": true }), Task::Suppliers(forced)),
            (SUPPLIER, json!({ "supplier": "A23" }), Task::Supplier { code: code("A23"), orders: calm }),
            (
                SUPPLIER,
                json!({ "supplier_code": "a23", "manual": true }),
                Task::Supplier { code: code("A23"), orders: forced },
            ),
            (
                SUPPLIER,
                json!({ "supplier": "A23", "supplier_code": "A23", "manual": false, "allow_removal": true }),
                Task::Supplier { code: code("A23"), orders: Orders { allow_removal: true, ..calm } },
            ),
            (CATEGORIES_KIND, json!({ "force": true }), Task::Categories { allow_removal: false }),
        ] {
            assert_eq!(Task::read(kind, &params), Ok(task), "{kind} {params}");
        }
        assert!(matches!(Task::read(FAMILY, &family()), Ok(Task::Family(_))));
        let Ok(Task::Image(read)) = Task::read(IMAGE, &image()) else { panic!() };
        assert_eq!((read.field, read.index), (Field::GalleryImages, 4));
        for (kind, params, told) in [
            (SUPPLIER, json!({ "suplier": "A23" }), "unknown field `suplier`"),
            (SUPPLIER, json!({ "supplier": "23" }), "\"23\" is no supplier code: write it like A23, or *"),
            (SUPPLIER, json!({ "supplier": "../x" }), "is no supplier code"),
            (SUPPLIER, json!({ "supplier": "A23", "supplier_code": "A24" }), "which?"),
            (SUPPLIER, json!({ "supplier": 23 }), "invalid type"),
            (SUPPLIER, json!([]), "expected an object"),
            (FAMILY, json!({}), "missing field `sku`"),
            (FAMILY, json!({ "sku": "a/b", "url": "", "product_hash": "", "supplier_code": "A1" }), "is no SKU"),
            (
                IMAGE,
                json!({ "image_url": "x", "entity_type": "video", "entity": "A1", "field": "primary_image" }),
                "`video`",
            ),
            ("products.other", json!({}), "no job kind"),
        ] {
            let Err(Fault::Fail { reason }) = Task::read(kind, &params) else { panic!("{kind} {params}") };
            assert!(reason.contains(told) && !reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn what_a_parent_asks_for_its_child_can_read() {
        let orders = Orders { force: true, allow_removal: true };
        let job = supplier_job(&code("A23"), orders);
        assert_eq!(Task::read(&job.kind, &job.params), Ok(Task::Supplier { code: code("A23"), orders }));
        let wanted: Family = serde_json::from_value(family()).unwrap();
        let job = family_job(&wanted);
        assert_eq!((job.params.clone(), job.unique.unwrap().key.as_str()), (family(), "products.family A23-1"));
        assert_eq!(Task::read(&job.kind, &job.params), Ok(Task::Family(wanted)));
        let wanted: Image = serde_json::from_value(image()).unwrap();
        let job = image_job(&wanted, FIRST_IMAGE);
        assert_eq!(job.params, image());
        let key = "products.image product-variant/A23-1-2/gallery_images/4 https://h/1.jpg";
        assert_eq!((job.unique.unwrap().key.as_str(), job.priority), (key, 10));
        assert_eq!(Task::read(&job.kind, &job.params), Ok(Task::Image(wanted)));
        assert!(Sku::parse("A23-1").is_some());
    }

    #[test]
    fn only_a_list_that_was_read_is_closed_and_only_a_word_lifts_the_guard() {
        let guard = Guard { rows: 50, ratio: 0.2, lifted: false };
        let at = |total, received| Checkpoint {
            total,
            counts: Counts { received, ..Counts::default() },
            ..Checkpoint::default()
        };
        let task = |allow_removal| Task::Supplier { code: code("A23"), orders: Orders { force: false, allow_removal } };
        assert!(close(guard, &task(false), &at(None, 0)).is_none(), "304");
        assert!(close(guard, &task(false), &at(Some(0), 0)).is_none(), "no line of this supplier");
        assert!(close(guard, &Task::Suppliers(Orders::default()), &at(Some(5), 5)).is_none());
        let removal = close(guard, &task(false), &at(Some(7), 5)).unwrap().removals.remove(0);
        assert_eq!((removal.table, removal.key, removal.missing, removal.guard), (&PRODUCTS, "sku", 2, guard));
        assert_eq!((removal.scope, removal.owned.len()), (("supplier_code", "A23".to_owned()), 2));
        assert!(close(guard, &task(true), &at(Some(5), 5)).unwrap().removals[0].guard.lifted);
        let removal =
            close(guard, &Task::Categories { allow_removal: false }, &at(Some(5), 5)).unwrap().removals.remove(0);
        assert_eq!(
            (removal.table, removal.scope, removal.owned.len()),
            (&CATEGORIES, ("provider", "promidata".to_owned()), 0)
        );
    }
}
