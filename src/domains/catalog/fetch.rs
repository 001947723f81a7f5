//! Fetch: one page from eSIM Go, as text, split into records and not read further.
//!
//! A list page is a window of records. It is fetched in one call, or, once the upstream refused the size, in several
//! smaller ones that make up the same window:
//!
//! ```text
//! window 2 of 200   one call    page=2 perPage=200
//!                   refused     page=5 perPage=50, page=6, page=7, page=8      and so for all windows after it
//! ```
//!
//! Every page tells all pages after it, so that a job can go on from any of them.
//!
//! A listing may change while it is read, and then records move from page to page: one that was deleted lets another
//! slip through between two windows. So each page carries the number of records that there were at first, and the
//! total is the larger of then and now: the snapshot falls short of it and nothing is removed.
//!
//! An empty group is most often a misspelt one, since the filter is exact: that is a warning, with the account's own
//! spelling, and never a reason to remove anything.

use std::sync::Arc;

use longshore_actors::domain::Fetched;
use longshore_actors::job::Fault;
use longshore_actors::stage::Stage;

use crate::domains::catalog::client::{EsimGo, Listed};
use crate::domains::catalog::model::{Answer, Body, Extent, ListPage, Listing, Request};

/// A job has no more pages than this: a hundred times the known catalogue, so a larger count is a mistake.
const PAGES_MAX: u64 = 10_000;

#[derive(Clone)]
pub struct FetchSettings {
    pub client: EsimGo,
    /// Records in a call that is never refused for its size.
    pub per_call_small: u32,
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
            Request::Groups => {
                let body = self.settings.client.groups().await?;
                Ok(whole(Answer { request: Request::Groups, bodies: vec![body], currency: None }))
            }
            Request::Bundle { name } => {
                let body = self.settings.client.bundle(name).await?;
                let currency = self.settings.client.currency().await?;
                Ok(whole(Answer { request: Request::clone(&request), bodies: vec![body], currency }))
            }
            Request::List(page) => self.list(page).await,
        }
    }
}

/// A window as it was fetched.
struct Window {
    bodies: Vec<Body>,
    /// What the last call told, in pages of `per_call`.
    extent: Extent,
    per_call: u32,
}

/// How far a listing goes, in windows.
#[derive(Debug, PartialEq, Eq)]
struct Reach {
    pages: u64,
    /// Known from the upstream, or because this is the last page.
    total: Option<u64>,
}

impl Fetch {
    async fn list(&self, asked: &ListPage) -> Result<Fetched<Request, Answer>, Fault> {
        let small = self.settings.per_call_small;
        let window = match self.window(asked, asked.per_call).await? {
            Some(window) => window,
            None => self
                .window(asked, small)
                .await?
                .ok_or_else(|| Fault::retry(format!("eSIM Go refused even {small} records at once of {}", asked.of)))?,
        };
        let received = window.bodies.iter().map(Body::len).sum::<usize>() as u64;
        let reach = reach(asked, window.per_call, window.extent, received);
        if reach.pages > PAGES_MAX {
            let pages = reach.pages;
            return Err(Fault::fail(format!("{} would have {pages} pages; the most is {PAGES_MAX}", asked.of)));
        }
        let more = (u64::from(asked.page) + 1..=reach.pages)
            .filter_map(|page| u32::try_from(page).ok())
            .map(|page| Request::List(ListPage { page, per_call: window.per_call, rows: reach.total, ..asked.clone() }))
            .collect();
        let empty = asked.page == 1 && received == 0;
        let warning = if empty { Some(self.empty(&asked.of).await) } else { None };
        let currency = if received > 0 { self.settings.client.currency().await? } else { None };
        let answer = Answer { request: Request::List(asked.clone()), bodies: window.bodies, currency };
        Ok(Fetched { answer, more, total: reach.total, warning })
    }

    /// `None`: refused for its size.
    async fn window(&self, asked: &ListPage, per_call: u32) -> Result<Option<Window>, Fault> {
        let small = per_call <= self.settings.per_call_small;
        let calls = (asked.per_page / per_call.max(1)).max(1);
        let first = asked.page.saturating_sub(1).saturating_mul(calls).saturating_add(1);
        let mut bodies = Vec::new();
        let mut extent = Extent::default();
        for page in first..first.saturating_add(calls) {
            let (body, told) = match self.settings.client.catalogue(&asked.of, page, per_call, small).await? {
                Listed::Page(body, told) => (body, told),
                Listed::Refused => return Ok(None),
            };
            let last = match told.pages {
                Some(pages) => u64::from(page) >= pages,
                None => body.len() != per_call as usize,
            };
            bodies.push(body);
            extent = told;
            if last {
                break;
            }
        }
        Ok(Some(Window { bodies, extent, per_call }))
    }

    /// What an operator reads about an empty listing.
    async fn empty(&self, of: &Listing) -> String {
        match of {
            Listing::Country(iso) => format!("eSIM Go has no bundles with {iso} as their base country"),
            Listing::Group(name) => {
                // A hint is worth one call and no fault.
                let known = self.settings.client.group_names().await.ok();
                spelling_hint(name, known.as_deref())
            }
        }
    }
}

fn whole(answer: Answer) -> Fetched<Request, Answer> {
    let total = answer.bodies.iter().map(Body::len).sum::<usize>() as u64;
    Fetched { total: Some(total), ..Fetched::new(answer) }
}

/// How far the listing goes, from what the upstream told, or else from whether this window is full. A bare array that
/// holds more than was asked for is the whole listing.
fn reach(asked: &ListPage, per_call: u32, told: Extent, received: u64) -> Reach {
    let (page, per_page) = (u64::from(asked.page), u64::from(asked.per_page.max(1)));
    let calls = (per_page / u64::from(per_call.max(1))).max(1);
    let by_count = told.pages.map(|pages| pages.div_ceil(calls));
    let by_rows = told.rows.map(|rows| rows.div_ceil(per_page));
    let pages = match (by_count, by_rows) {
        // Both: an upstream that caps the page size below what was asked for has more pages than rows would say.
        (Some(count), Some(rows)) => count.max(rows),
        (Some(pages), None) | (None, Some(pages)) => pages,
        (None, None) => page + u64::from(received == per_page),
    };
    let now = told.rows.or_else(|| (page >= pages).then_some(page.saturating_sub(1) * per_page + received));
    let total = now.max(asked.rows);
    Reach { pages, total }
}

/// Why a group may be empty. eSIM Go matches names exactly and spells some with " - " and some without.
fn spelling_hint(name: &str, known: Option<&[String]>) -> String {
    let alike = |other: &str| words(other) == words(name);
    let Some(known) = known else {
        let other = match name.split_once(" - ") {
            Some((first, rest)) => format!("{first} {rest}"),
            None => name.replacen(' ', " - ", 1),
        };
        return format!("the group {name:?} is empty; eSIM Go matches names exactly: try {other:?}");
    };
    if known.iter().any(|other| other == name) {
        return format!("the group {name:?} is empty, though the account has it");
    }
    match known.iter().find(|other| alike(other)) {
        Some(other) => {
            format!("the group {name:?} is empty: eSIM Go matches names exactly, and the account has {other:?}")
        }
        None => {
            let all = known.iter().take(20).map(|other| format!("{other:?}")).collect::<Vec<_>>().join(", ");
            format!("the group {name:?} is empty and not among the account's groups ({all})")
        }
    }
}

/// The words of a name, without case and the signs between them.
fn words(name: &str) -> Vec<String> {
    let words = name.split(|sign: char| !sign.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::domains::catalog::client::{Raw, Transport};

    /// Answers from a function and remembers what it was asked.
    struct Scripted<F> {
        answer: F,
        asked: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl<F> Transport for Scripted<F>
    where
        F: Fn(&str) -> Result<(u16, String), Fault> + Send + Sync + 'static,
    {
        async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Raw, Fault> {
            let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let url = format!("{path}?{}", query.join("&").replace("&orderBy=bundleName&direction=asc", ""));
            self.asked.lock().unwrap().push(url.clone());
            let snippet = |body: &str| body.chars().take(120).collect();
            (self.answer)(&url).map(|(status, body)| Raw { status, snippet: snippet(&body), body: body.into_bytes() })
        }
    }

    async fn run<F>(request: Request, answer: F) -> (Result<Fetched<Request, Answer>, Fault>, Vec<String>)
    where
        F: Fn(&str) -> Result<(u16, String), Fault> + Send + Sync + 'static,
    {
        let transport = Arc::new(Scripted { answer, asked: Mutex::default() });
        let client = EsimGo::new(transport.clone());
        let mut fetch = Fetch::open(&FetchSettings { client, per_call_small: 50 }).await.unwrap();
        let fetched = fetch.run(Arc::new(request)).await;
        let asked = transport.asked.lock().unwrap().clone();
        (fetched, asked)
    }

    fn group(page: u32, per_page: u32, per_call: u32) -> Request {
        Request::List(ListPage { of: Listing::Group("G".into()), page, per_page, per_call, rows: None })
    }

    fn with_rows(rows: u64, request: Request) -> Request {
        match request {
            Request::List(page) => Request::List(ListPage { rows: Some(rows), ..page }),
            Request::Groups | Request::Bundle { .. } => request,
        }
    }

    fn bundles(count: usize) -> String {
        let names: Vec<String> = (0..count).map(|n| format!(r#"{{"name":"b{n}"}}"#)).collect();
        format!("[{}]", names.join(","))
    }

    fn page(count: usize, pages: u64, rows: u64) -> Result<(u16, String), Fault> {
        Ok((200, format!(r#"{{"bundles":{},"pageCount":{pages},"rows":{rows},"pageSize":200}}"#, bundles(count))))
    }

    fn organisation(url: &str) -> Option<Result<(u16, String), Fault>> {
        url.starts_with("/organisation?").then(|| Ok((200, r#"{"organisations":[{"currency":"USD"}]}"#.to_owned())))
    }

    #[tokio::test]
    async fn a_page_tells_all_pages_after_it_and_the_total() {
        for first in [1, 2] {
            let (fetched, asked) =
                run(group(first, 200, 200), |url| organisation(url).unwrap_or_else(|| page(200, 4, 750))).await;
            let fetched = fetched.unwrap();
            assert_eq!(
                fetched.more,
                (first + 1..=4).map(|page| with_rows(750, group(page, 200, 200))).collect::<Vec<_>>()
            );
            assert_eq!((fetched.total, fetched.warning), (Some(750), None));
            assert_eq!(fetched.answer.currency.as_deref(), Some("USD"));
            assert_eq!(asked, [format!("/catalogue?group=G&page={first}&perPage=200"), "/organisation?".to_owned()]);
        }
    }

    #[tokio::test]
    async fn a_refused_size_is_fetched_in_small_calls_that_make_up_the_same_window() {
        for status in [400, 401, 413] {
            let (fetched, asked) = run(group(2, 200, 200), move |url| match url.ends_with("perPage=200") {
                true => Ok((status, r#"{"message":"Unauthorised"}"#.to_owned())),
                false => organisation(url).unwrap_or_else(|| page(50, 15, 750)),
            })
            .await;
            let fetched = fetched.unwrap();
            assert_eq!(fetched.more, [3, 4].map(|page| with_rows(750, group(page, 200, 50))));
            assert_eq!(fetched.answer.bodies.iter().map(Body::len).sum::<usize>(), 200);
            let small = |page| format!("/catalogue?group=G&page={page}&perPage=50");
            let refused = "/catalogue?group=G&page=2&perPage=200".to_owned();
            assert_eq!(asked, [refused, small(5), small(6), small(7), small(8), "/organisation?".to_owned()]);
        }
    }

    #[tokio::test]
    async fn small_calls_stop_at_the_last_page() {
        let (fetched, asked) = run(group(1, 200, 50), |url| {
            organisation(url).unwrap_or_else(|| match url.contains("page=3&") {
                true => page(20, 3, 120),
                false => page(50, 3, 120),
            })
        })
        .await;
        let fetched = fetched.unwrap();
        assert_eq!((fetched.more, fetched.total, asked.len()), (Vec::new(), Some(120), 4));
    }

    #[tokio::test]
    async fn a_wrong_key_fails_and_names_the_setting() {
        for status in [401, 403] {
            let (fetched, _) =
                run(group(1, 200, 200), move |_| Ok((status, r#"{"message":"Unauthorised"}"#.into()))).await;
            let Err(Fault::Fail { reason }) = fetched else { panic!("{fetched:?}") };
            assert!(reason.contains("domains.catalog.api_key") && reason.contains("Unauthorised"), "{reason}");
        }
        let (fetched, _) = run(group(3, 50, 50), |_| Ok((401, "{}".into()))).await;
        assert!(matches!(fetched, Err(Fault::Retry { .. })), "401 after good pages is not the key: {fetched:?}");
    }

    #[tokio::test]
    async fn a_bare_array_goes_on_while_its_pages_are_full() {
        let bare = |count| move |url: &str| organisation(url).unwrap_or_else(|| Ok((200, bundles(count))));
        let full = run(group(2, 200, 200), bare(200)).await.0.unwrap();
        assert_eq!((full.more, full.total), (vec![group(3, 200, 200)], None));
        let last = run(group(3, 200, 200), bare(7)).await.0.unwrap();
        assert_eq!((last.more, last.total), (Vec::new(), Some(407)));
        let whole = run(group(1, 200, 200), bare(5_148)).await.0.unwrap();
        assert_eq!((whole.more, whole.total), (Vec::new(), Some(5_148)));
    }

    #[tokio::test]
    async fn a_listing_that_shrank_or_grew_while_it_was_read_is_told_with_the_larger_total() {
        for (then, now, total) in [(400, 399, 400), (400, 401, 401), (400, 400, 400)] {
            let answer = move |url: &str| organisation(url).unwrap_or_else(|| page(199, 2, now));
            let fetched = run(with_rows(then, group(2, 200, 200)), answer).await.0.unwrap();
            assert_eq!(fetched.total, Some(total));
        }
    }

    #[tokio::test]
    async fn an_absurd_page_count_fails() {
        let (fetched, _) = run(group(1, 200, 200), |_| page(1, u64::MAX, 1)).await;
        assert!(matches!(fetched, Err(Fault::Fail { .. })), "{fetched:?}");
    }

    #[tokio::test]
    async fn an_empty_group_is_a_warning_with_the_accounts_spelling() {
        let request = Request::List(ListPage {
            of: Listing::Group("Standard - Unlimited Lite".into()),
            page: 1,
            per_page: 200,
            per_call: 200,
            rows: None,
        });
        let (fetched, asked) = run(request, |url| match url.starts_with("/organisation/groups") {
            true => Ok((200, r#"{"groups":[{"name":"Standard Fixed"},{"name":"Standard Unlimited Lite"}]}"#.into())),
            false => page(0, 0, 0),
        })
        .await;
        let fetched = fetched.unwrap();
        assert_eq!(
            fetched.warning.as_deref(),
            Some(
                "the group \"Standard - Unlimited Lite\" is empty: eSIM Go matches names exactly, and the account has \
                 \"Standard Unlimited Lite\""
            )
        );
        assert_eq!((fetched.more, fetched.total, asked.len()), (Vec::new(), Some(0), 2));
    }

    #[test]
    fn the_hint_says_what_is_known() {
        let known = ["Standard Fixed".to_owned(), "Regional Bundles".to_owned()];
        assert!(spelling_hint("Standard Fixed", Some(&known)).ends_with("though the account has it"));
        assert!(spelling_hint("standard - fixed", Some(&known)).ends_with(r#"the account has "Standard Fixed""#));
        assert!(spelling_hint("Gold", Some(&known)).contains(r#"("Standard Fixed", "Regional Bundles")"#));
        assert!(spelling_hint("A - B C", None).ends_with(r#"try "A B C""#));
        assert!(spelling_hint("A B C", None).ends_with(r#"try "A - B C""#));
    }

    #[tokio::test]
    async fn a_missing_currency_is_no_failure_and_an_outage_is_passed_on() {
        let refused = |url: &str| match url {
            "/organisation?" => Ok((404, "{}".to_owned())),
            _ => page(1, 1, 1),
        };
        assert_eq!(run(group(1, 200, 200), refused).await.0.unwrap().answer.currency, None);

        let broken = |url: &str| match url {
            "/organisation?" => Err(Fault::retry("HTTP 500")),
            _ => page(1, 1, 1),
        };
        let (fetched, asked) = run(group(1, 200, 200), broken).await;
        assert_eq!((fetched.unwrap().answer.currency, asked.len()), (None, 4));

        let down = |url: &str| match url {
            "/organisation?" => Err(Fault::unavailable("api.esim-go.com", "no connection")),
            _ => page(1, 1, 1),
        };
        assert!(matches!(run(group(1, 200, 200), down).await.0, Err(Fault::Unavailable { .. })));
    }

    #[tokio::test]
    async fn a_bundle_is_asked_for_by_its_detail_and_an_unknown_one_fails() {
        let (fetched, asked) = run(Request::Bundle { name: "a b".into() }, |url| {
            organisation(url).unwrap_or_else(|| Ok((200, r#"{"name":"a b"}"#.into())))
        })
        .await;
        assert_eq!(fetched.unwrap().total, Some(1));
        assert_eq!(asked[0], "/catalogue/bundle/a b?");
        let (fetched, _) = run(Request::Bundle { name: "x".into() }, |_| Ok((404, "{}".into()))).await;
        assert!(matches!(fetched, Err(Fault::Fail { .. })));
    }
}
