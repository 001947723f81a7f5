//! Fetch: a file of Promidata's, and what the store knows of it.
//!
//! ```text
//! list ──piece by piece──▶ lines of one supplier ──4096 at a time──▶ which hash stands? ──▶ those that changed
//! document ──▶ which of its images stand in their place?
//! image ──▶ its bytes, unless its address is known
//! ```
//!
//! The hashes are compared while the list still comes in, so that memory holds only the keys of the supplier and the
//! lines that changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_actors::domain::Fetched;
use longshore_actors::job::Fault;
use longshore_actors::stage::Stage;

use crate::domains::products::client::{self, Promidata};
use crate::domains::products::feed::{Entry, Lines, entry};
use crate::domains::products::list::List;
use crate::domains::products::model::{Answer, Code, Family, File, Image, Listed, Orders, Placed, Request, Sku};
use crate::domains::products::tables::{MEDIA_LINKS, PRODUCTS, SUPPLIERS};
use crate::domains::products::{Settings, categories, images, picture};
use crate::store::Store;
use crate::store::batch::Cell;
use crate::targets::store::fault;
use crate::upstreams::{Stream, Validators};

/// The line of CAT.csv is the first one; it is looked for so far.
const CATEGORIES_WITHIN: usize = 1_000;

#[derive(Clone)]
pub struct FetchSettings {
    pub client: Promidata,
    pub store: Arc<dyn Store>,
    pub products: Settings,
}

pub struct Fetch {
    settings: FetchSettings,
}

impl Stage for Fetch {
    type Settings = FetchSettings;
    type Input = Request;
    type Output = Fetched<Request, Answer>;

    async fn open(settings: &FetchSettings) -> Result<Self, Fault> {
        Ok(Self { settings: settings.clone() })
    }

    async fn run(&mut self, request: Arc<Request>) -> Result<Self::Output, Fault> {
        match request.as_ref() {
            Request::Suppliers(orders) => self.suppliers(*orders).await,
            Request::Supplier { code, orders, since } => self.supplier(code, *orders, since).await,
            Request::Categories => self.categories().await,
            Request::Family(family) => self.family(family).await,
            Request::Image { image, product, known } => self.image(image, product, known.as_deref()).await,
        }
    }
}

impl Fetch {
    /// Which suppliers the list names, and how many families each has.
    async fn suppliers(&self, orders: Orders) -> Result<Fetched<Request, Answer>, Fault> {
        let mut stream = self.list().await?;
        let (mut lines, mut counts) = (Lines::default(), BTreeMap::<Code, u64>::new());
        let mut count = |line: &[u8]| {
            if let Entry::Family { code, .. } = entry(line)
                && let Some(code) = Code::parse(code)
            {
                *counts.entry(code).or_default() += 1;
            }
        };
        while let Some(piece) = stream.next().await? {
            lines.push(&piece, &mut count);
        }
        count(&lines.rest());
        if counts.is_empty() {
            return Err(Fault::retry(format!("GET {}: no line of it names a family", stream.url())));
        }
        let keys = || counts.keys().map(|code| Cell::Text(code.to_string())).collect();
        let etags = self.settings.store.known(&SUPPLIERS, "list_etag", keys()).await.map_err(fault)?;
        let dates = self.settings.store.known(&SUPPLIERS, "list_modified", keys()).await.map_err(fault)?;
        let warning = self.missing(&counts).await?;
        let suppliers = counts.into_iter().zip(etags.into_iter().zip(dates));
        let suppliers = suppliers.map(|((code, families), (etag, last_modified))| Listed {
            code,
            families,
            version: Validators { etag, last_modified },
        });
        let answer = Answer::Suppliers { suppliers: suppliers.collect(), orders };
        Ok(Fetched { warning, ..Fetched::new(answer) })
    }

    /// Suppliers that the list no longer names though they are wanted, or have products.
    async fn missing(&self, counts: &BTreeMap<Code, u64>) -> Result<Option<String>, Fault> {
        let rows = self.settings.store.rows(&SUPPLIERS, Vec::new(), 10_000).await.map_err(fault)?;
        let stored = rows.iter().filter_map(|row| match (&row.cells[0], &row.cells[1]) {
            (Cell::Text(code), Cell::Bool(true)) => Code::parse(code),
            _ => None,
        });
        let wanted = stored.chain(self.settings.products.suppliers.iter().cloned());
        let mut gone: Vec<String> = wanted
            .filter(|code| self.settings.products.is_active(code) && !counts.contains_key(code))
            .map(String::from)
            .collect();
        gone.sort();
        gone.dedup();
        let text = || format!("the list names no family of {}: nothing of theirs is removed", gone.join(", "));
        Ok((!gone.is_empty()).then(text))
    }

    async fn supplier(
        &self,
        code: &Code,
        orders: Orders,
        since: &Validators,
    ) -> Result<Fetched<Request, Answer>, Fault> {
        let Some(mut stream) = self.settings.client.list(since).await? else {
            return Ok(Fetched::new(Answer::Unchanged));
        };
        let client = &self.settings.client;
        let (hide, allows) = (|text: &str| client.hide(text), |host: &str| client.allows(host));
        let (mut lines, mut list) = (Lines::default(), List::new(code.clone(), orders.force));
        while let Some(piece) = stream.next().await? {
            lines.push(&piece, |line| list.line(line, hide, allows));
            self.compare(&mut list, false).await?;
        }
        list.last(&lines.rest(), hide, allows);
        self.compare(&mut list, true).await?;
        if list.is_none() {
            return Err(Fault::retry(format!("GET {}: not one line of it is a line of the list", stream.url())));
        }
        let ended = list.end(stream.is_announced(), stream.validators());
        let answer = Answer::Supplier(ended.families);
        Ok(Fetched { total: Some(ended.total), warning: ended.warning, ..Fetched::new(answer) })
    }

    /// Asks the store for the hashes that stand, if there are enough lines to ask for.
    async fn compare(&self, list: &mut List, all: bool) -> Result<(), Fault> {
        let Some(skus) = list.to_compare(all) else { return Ok(()) };
        let keys = skus.into_iter().map(|sku| Cell::Text(sku.into())).collect();
        let known = self.settings.store.known(&PRODUCTS, "feed_hash", keys).await.map_err(fault)?;
        list.compare(known);
        Ok(())
    }

    async fn categories(&self) -> Result<Fetched<Request, Answer>, Fault> {
        let mut stream = self.list().await?;
        let (mut lines, mut read, mut address) = (Lines::default(), 0, None);
        let mut look = |line: &[u8]| {
            read += 1;
            if let (None, Entry::Categories(url)) = (&address, entry(line)) {
                address = Some(self.settings.client.hide(url));
            }
            (address.clone(), read)
        };
        let mut found = None;
        while let Some(piece) = stream.next().await? {
            let mut enough = false;
            lines.push(&piece, |line| {
                let (address, read) = look(line);
                enough = address.is_some() || read > CATEGORIES_WITHIN;
                found = address;
            });
            if enough {
                break;
            }
        }
        if found.is_none() {
            found = look(&lines.rest()).0;
        }
        let shown = stream.url().to_owned();
        // The rest of the list is not read.
        stream.enough();
        let none = || Fault::fail(format!("GET {shown}: its first lines name no CAT.csv"));
        let address = found.ok_or_else(none)?;
        let text = self.settings.client.text(&address, client::CATEGORIES).await?;
        // How many there are is needed to know whether all came; the file is small enough to be read twice.
        let (_, total) = categories::transform(&text)?;
        Ok(Fetched { total: Some(total), ..Fetched::new(Answer::Categories { text }) })
    }

    async fn family(&self, family: &Family) -> Result<Fetched<Request, Answer>, Fault> {
        let text = self.settings.client.text(&family.url, &format!("the document of {}", family.sku)).await?;
        let images::Found { images, unread } = match images::of(&text, &family.sku) {
            Ok(found) => found,
            // Of another shape: it is put aside as a whole, with the reason, where it becomes rows.
            Err(error) if error.is_data() => images::Found::default(),
            Err(error) => {
                return Err(Fault::retry(format!("the document of {} is no whole JSON: {error}", family.sku)));
            }
        };
        let slots: Vec<Cell> = images.iter().map(|image| Cell::Text(image.slot())).collect();
        let store = &self.settings.store;
        // Of this family: a place that came with a variant from another one goes when that one is written.
        let owners = store.known(&MEDIA_LINKS, "product_sku", slots.clone()).await.map_err(fault)?;
        let standing = store.known(&MEDIA_LINKS, "url", slots).await.map_err(fault)?;
        let standing = standing.into_iter().zip(owners);
        let standing = standing.map(|(url, owner)| url.filter(|_| owner.as_deref() == Some(family.sku.as_str())));
        let images = images
            .into_iter()
            .zip(standing)
            .map(|(image, standing)| Placed { stands: standing.as_deref() == Some(image.image_url.as_str()), image });
        let images = images.collect();
        Ok(Fetched::new(Answer::Family { family: family.clone(), text, images, unread }))
    }

    async fn image(
        &self,
        image: &Image,
        product: &Sku,
        known: Option<&str>,
    ) -> Result<Fetched<Request, Answer>, Fault> {
        let file = match known {
            Some(object_key) => File::Known { object_key: object_key.to_owned() },
            None => {
                let bytes = self.settings.client.image(&image.image_url).await?;
                // A page that was put in between, or nothing: another time it may be the image. What else is no image
                // will be the same again.
                if let Err(reason) = picture::kind(&bytes)
                    && (bytes.is_empty() || picture::is_html(&bytes))
                {
                    return Err(Fault::retry(reason));
                }
                File::New(bytes)
            }
        };
        Ok(Fetched::new(Answer::Image { image: image.clone(), product: product.clone(), file }))
    }

    /// The list, whatever its version.
    async fn list(&self) -> Result<Stream, Fault> {
        let list = self.settings.client.list(&Validators::default()).await?;
        list.ok_or_else(|| Fault::retry("the list was answered with 304, though nothing was said of a version"))
    }
}
