//! A domain of one plain table of fifteen columns, for measuring: from the upstream's JSON to rows in the store.
//!
//! What it measures is the way of a page with nothing of a provider's own: fetch, parse, hash, compare, write, commit.

use std::sync::Arc;

use longshore_actors::breaker::Breaker;
use longshore_actors::domain::{Domain, Fetched, Plan, Transformed};
use longshore_actors::job::{Fault, Job};
use longshore_actors::stage::Stage;
use rust_decimal::Decimal;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::store::batch::{Batch, Cell, Rows};
use crate::store::table::ColumnKind::{Bool, Decimal as Exact, Int, Text};
use crate::store::table::{Column, Table};
use crate::targets::store::{StoreTarget, StoreUpload};
use crate::upstreams::Upstream;

pub const DOMAIN: &str = "plain";
pub const KIND: &str = "plain.rows";

pub static ITEMS: Table = Table {
    name: "plain_items",
    key: 1,
    columns: &[
        Column::new("id", Text),
        Column::new("name", Text),
        Column::new("description", Text),
        Column::new("sku", Text),
        Column::new("price", Exact),
        Column::new("cost", Exact),
        Column::new("quantity", Int),
        Column::new("weight", Int),
        Column::new("active", Bool),
        Column::new("category", Text),
        Column::new("brand", Text),
        Column::new("country", Text),
        Column::new("ean", Text),
        Column::new("url", Text),
        Column::new("updated", Text),
    ],
    details: &[],
    link: false,
};

/// It is no domain of the service's, so its table is in no migration.
pub const CREATE: &str = "
CREATE TABLE plain_items (
    id text COLLATE \"C\" NOT NULL PRIMARY KEY, name text NOT NULL, description text NOT NULL, sku text NOT NULL,
    price numeric NOT NULL, cost numeric NOT NULL, quantity bigint NOT NULL, weight bigint NOT NULL,
    active boolean NOT NULL, category text NOT NULL, brand text NOT NULL, country text NOT NULL, ean text NOT NULL,
    url text NOT NULL, updated text NOT NULL,
    content_hash bytea NOT NULL, changed_at timestamptz NOT NULL, removed_at timestamptz)";

#[derive(Deserialize)]
struct Page<'a> {
    total: u64,
    #[serde(borrow)]
    rows: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    sku: &'a str,
    #[serde(deserialize_with = "exact")]
    price: Decimal,
    #[serde(deserialize_with = "exact")]
    cost: Decimal,
    quantity: i64,
    weight: i64,
    active: bool,
    category: &'a str,
    brand: &'a str,
    country: &'a str,
    ean: &'a str,
    url: &'a str,
    updated: &'a str,
}

/// As it is written, and not by way of a binary fraction.
fn exact<'de, D: Deserializer<'de>>(number: D) -> Result<Decimal, D::Error> {
    Decimal::from_str_exact(<&RawValue>::deserialize(number)?.get()).map_err(D::Error::custom)
}

pub struct Plain {
    pub upstream: Upstream,
    pub target: StoreTarget,
    pub rows: u64,
    pub per_page: u64,
}

impl Domain for Plain {
    type Request = u64;
    type Answer = Vec<u8>;
    type Batch = Batch;
    type Fetch = Fetch;
    type Transform = Transform;
    type Upload = StoreUpload;

    fn name(&self) -> &'static str {
        DOMAIN
    }

    fn kinds(&self) -> &'static [&'static str] {
        &[KIND]
    }

    fn fetch(&self) -> (Upstream, u64, u64) {
        (self.upstream.clone(), self.rows, self.per_page)
    }

    fn transform(&self) {}

    fn upload(&self) -> StoreTarget {
        self.target.clone()
    }

    fn breakers(&self) -> Vec<Arc<Breaker>> {
        Vec::new()
    }

    async fn plan(&self, _: &Job) -> Result<Plan<u64>, Fault> {
        Ok(Plan::pages((1..=self.rows.div_ceil(self.per_page)).collect()))
    }
}

pub struct Fetch {
    upstream: Upstream,
    rows: u64,
    per_page: u64,
}

impl Stage for Fetch {
    type Settings = (Upstream, u64, u64);
    type Input = u64;
    type Output = Fetched<u64, Vec<u8>>;

    async fn open((upstream, rows, per_page): &(Upstream, u64, u64)) -> Result<Self, Fault> {
        Ok(Self { upstream: upstream.clone(), rows: *rows, per_page: *per_page })
    }

    async fn run(&mut self, page: Arc<u64>) -> Result<Fetched<u64, Vec<u8>>, Fault> {
        let query =
            [("count", self.rows.to_string()), ("page", page.to_string()), ("perPage", self.per_page.to_string())];
        Ok(Fetched::new(self.upstream.get("/rows", &query).await?.into_body()))
    }
}

pub struct Transform;

impl Stage for Transform {
    type Settings = ();
    type Input = Vec<u8>;
    type Output = Transformed<Batch>;

    async fn open((): &()) -> Result<Self, Fault> {
        Ok(Self)
    }

    async fn run(&mut self, body: Arc<Vec<u8>>) -> Result<Transformed<Batch>, Fault> {
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| Fault::fail(error.to_string()))?;
        let mut rows = Rows::new(&ITEMS);
        let received = page.rows.len() as u64;
        debug_assert!(page.total >= received);
        for item in page.rows {
            let text = |text: &str| Cell::Text(text.to_owned());
            rows.push(
                vec![
                    text(item.id),
                    text(item.name),
                    text(item.description),
                    text(item.sku),
                    Cell::Decimal(item.price),
                    Cell::Decimal(item.cost),
                    Cell::Int(item.quantity),
                    Cell::Int(item.weight),
                    Cell::Bool(item.active),
                    text(item.category),
                    text(item.brand),
                    text(item.country),
                    text(item.ean),
                    text(item.url),
                    text(item.updated),
                ],
                Vec::new(),
            );
        }
        Ok(Transformed::new(Batch { rows: vec![rows], ..Batch::default() }, received))
    }
}
