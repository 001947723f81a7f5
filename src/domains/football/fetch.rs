//! Fetch: one answer of API-Football, as text, split into records and not read further.
//!
//! An answer holds the whole list: nothing here is paged. Whether it is whole shows in its own counts; one that is not
//! is written all the same and removes nothing. With the leagues goes what the store holds of them already, which
//! their slugs and the removal of seasons depend on.

use std::sync::Arc;

use longshore_actors::domain::Fetched;
use longshore_actors::job::Fault;
use longshore_actors::stage::Stage;

use crate::domains::football::client::{ApiFootball, WHO};
use crate::domains::football::model::{Answer, Body, Extent, Request, Standing, StatusRecord};
use crate::domains::football::tables::{LEAGUE_SLUGS, SEASON_PROVIDER_ID, SEASONS};
use crate::store::Store;
use crate::store::batch::{Cell, Row};
use crate::store::table::Table;
use crate::targets::store::fault;

/// Rows that are read from the store at a time.
const ROWS_MAX: usize = 1_000;

#[derive(Clone)]
pub struct FetchSettings {
    pub client: ApiFootball,
    pub store: Arc<dyn Store>,
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
        let FetchSettings { client, store } = &self.settings;
        let request = *request;
        let (body, extent) = client.ask(request).await?;
        // After the call, which may have waited long.
        let standing = match request {
            Request::Leagues { .. } => standing(&**store).await?,
            Request::Countries { .. } => Standing::default(),
            Request::Status => {
                note_used(client, &body).await?;
                Standing::default()
            }
        };
        let (total, warning) = reach(request, &body, extent);
        // There is always something to list: an empty list is a failure of the provider's.
        let whole = total.is_some_and(|total| total > 0);
        Ok(Fetched { total, warning, ..Fetched::new(Answer { request, body, whole, standing }) })
    }
}

/// Records in all, if these are all, and what an operator should know of it.
fn reach(request: Request, body: &Body, extent: Extent) -> (Option<u64>, Option<String>) {
    let (what, received) = (request.plural(), body.len() as u64);
    let whole = extent.results == Some(received) && extent.pages.unwrap_or(1) <= 1;
    match request {
        // Not a list: its counts mean nothing.
        Request::Status => (Some(received), None),
        Request::Leagues { .. } | Request::Countries { .. } if !whole => {
            let told = |count: Option<u64>| count.map_or_else(|| "no number".to_owned(), |count| count.to_string());
            let (results, pages) = (told(extent.results), told(extent.pages));
            let warning = format!(
                "{WHO}'s answer is not whole: {received} {what} came, it says {results} of results and {pages} of \
                 pages; they are written and nothing is removed"
            );
            (None, Some(warning))
        }
        Request::Leagues { .. } | Request::Countries { .. } if received == 0 => {
            (Some(0), Some(format!("{WHO} sent an empty list of {what} without a reason; nothing is removed")))
        }
        Request::Leagues { .. } | Request::Countries { .. } => (Some(received), None),
    }
}

/// What does not fit is rejected, with its reason, by transform.
async fn note_used(client: &ApiFootball, body: &Body) -> Result<(), Fault> {
    let account = body.records().find_map(|record| serde_json::from_str::<StatusRecord>(record).ok());
    match account {
        Some(account) => client.note_used(account.requests.current).await,
        None => Ok(()),
    }
}

/// What the store holds of leagues.
async fn standing(store: &dyn Store) -> Result<Standing, Fault> {
    let mut standing = Standing::default();
    each(store, &LEAGUE_SLUGS, |cells| {
        if let [Cell::Int(league), Cell::Text(slug)] = cells {
            standing.slugs.insert(*league, slug.clone());
        }
    })
    .await?;
    each(store, &SEASONS, |cells| {
        if let (Some(Cell::Int(league)), Some(Cell::Text(id))) = (cells.first(), cells.get(SEASON_PROVIDER_ID)) {
            standing.seasons.entry(*league).or_default().push(id.clone());
        }
    })
    .await?;
    Ok(standing)
}

/// Takes all live rows of a table.
async fn each(store: &dyn Store, table: &'static Table, mut take: impl FnMut(&[Cell])) -> Result<(), Fault> {
    let mut after = Vec::new();
    loop {
        let rows: Vec<Row> = store.rows(table, after, ROWS_MAX).await.map_err(fault)?;
        rows.iter().for_each(|row| take(&row.cells));
        match rows.last() {
            Some(last) if rows.len() == ROWS_MAX => after = last.cells[..table.key].to_vec(),
            Some(_) | None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Request, reach};
    use crate::domains::football::model::Envelope;

    const LEAGUES: Request = Request::Leagues { allow_removal: false };
    const COUNTRIES: Request = Request::Countries { allow_removal: false };

    fn reached(request: Request, text: &str) -> (Option<u64>, Option<String>) {
        let envelope = Envelope::read(text.to_owned()).unwrap();
        reach(request, &envelope.body.unwrap(), envelope.extent)
    }

    #[test]
    fn an_answer_is_whole_if_its_own_counts_say_so() {
        let whole = r#"{"results":2,"paging":{"current":1,"total":1},"response":[1,2]}"#;
        assert_eq!(reached(LEAGUES, whole), (Some(2), None));
        for text in [
            r#"{"results":3,"paging":{"current":1,"total":1},"response":[1,2]}"#,
            r#"{"results":1,"paging":{"current":1,"total":1},"response":[1,2]}"#,
            r#"{"results":2,"paging":{"current":1,"total":2},"response":[1,2]}"#,
            r#"{"response":[1,2]}"#,
        ] {
            let (total, warning) = reached(LEAGUES, text);
            assert_eq!(total, None, "{text}");
            assert!(warning.unwrap().contains("not whole: 2 leagues came"), "{text}");
        }
        let (total, warning) = reached(COUNTRIES, r#"{"results":0,"paging":{"total":1},"response":[]}"#);
        assert!(total == Some(0) && warning.unwrap().contains("empty list of countries"));
        assert_eq!(reached(Request::Status, r#"{"response":{"requests":{}}}"#), (Some(1), None));
    }
}
