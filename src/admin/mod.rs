//! The one door to a running service for operators: HTTP, and the command line through it.
//!
//! ```text
//!                               ┌─ ledger, store     what is written down
//! command line ─▶ HTTP ─▶ Admin ┼─ board, schedules  what runs now
//!                               └─ tree              restart, park, resize
//! ```
//!
//! Where no service runs, the command line lists, retries and cancels jobs in the ledger itself.
//!
//! Everything that comes in is checked here, and every error says what was wrong and what would be right. What it
//! does not do: know HTTP or a terminal, decide who may (the callers do), or reach into an actor.

mod readiness;
mod suggest;

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::job::{JobId, NewJob, State};
use longshore_actors::ledger::{Change, Children, Enqueued, Filter, JobRecord, KindStats, Ledger, LedgerError, Stats};
use longshore_actors::shutdown::{Phase, Phases};
use longshore_actors::stage::StageName;
use longshore_actors::status::{Board, Progress, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::admin::readiness::{Check, Readiness};

use crate::admin::readiness::judge;
use crate::schedule::missed::Missed;
use crate::schedule::scheduler::{Schedule, SchedulesHandle};
use crate::store::{RejectedRecord, Store};

/// A listing holds no more; the next page is asked for with `before`.
pub const LIST_MAX: usize = 500;

/// Jobs that one word of an operator retries; the answer says when there are more.
const RETRY_MAX: u64 = 10_000;

/// Workers of one pool: more is a slip of the finger.
pub const ACTORS_MAX: usize = 1024;

/// Places in the mailbox of one worker.
pub const MAILBOX_MAX: usize = 65_536;

/// What an operator may do to the running tree. The supervisor's handle implements it.
pub trait Tree: Send + Sync + 'static {
    /// Stops a domain's coordinator and workers and starts them afresh.
    fn restart(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>>;
    /// Stops a domain until it is un-parked.
    fn park(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>>;
    fn unpark(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>>;
    /// Changes a pool while it works; nothing in flight is lost.
    fn resize(
        &self,
        domain: &str,
        stage: StageName,
        actors: usize,
        mailbox: usize,
    ) -> BoxFuture<'_, Result<(), AdminError>>;
}

/// Why it was not done, as the caller must tell it apart; the text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// The request makes no sense as it stands.
    Bad(String),
    /// There is no such thing.
    Missing(String),
    /// The present state does not allow it.
    Refused(String),
    /// Something that it needs is down.
    Unavailable(String),
    /// A bug, or a damaged store.
    Broken(String),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::Bad(text)
            | AdminError::Missing(text)
            | AdminError::Refused(text)
            | AdminError::Unavailable(text)
            | AdminError::Broken(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for AdminError {}

impl From<LedgerError> for AdminError {
    fn from(error: LedgerError) -> Self {
        let text = error.to_string();
        match error {
            LedgerError::Missing(_) => AdminError::Missing(text),
            LedgerError::Stale(_) | LedgerError::Refused(_) | LedgerError::Guard(_) => AdminError::Refused(text),
            LedgerError::Unavailable(_) => AdminError::Unavailable(text),
            LedgerError::Broken(_) => AdminError::Broken(text),
        }
    }
}

/// A domain that this process runs, and the kinds of job it has handlers for.
#[derive(Clone, Debug)]
pub struct DomainInfo {
    pub name: String,
    pub kinds: Vec<String>,
}

/// A job that an operator puts in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnqueueRequest {
    pub domain: String,
    /// In full, such as `catalog.group`.
    pub kind: String,
    /// An object; empty by default.
    #[serde(default)]
    pub params: Option<Value>,
    #[serde(default)]
    pub priority: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnqueueAnswer {
    pub id: JobId,
    /// The job stood in the ledger already, by its unique key.
    pub existing: bool,
}

/// A job's row, and what only the running service knows of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobView {
    #[serde(flatten)]
    pub record: JobRecord,
    /// How far it is, while it runs.
    pub progress: Option<Progress>,
    /// Why it does not run, as far as that can be told.
    pub why: Option<String>,
    /// How its descendants stand, by kind; only where one job is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub family: Vec<KindStats>,
}

/// Which jobs an operator retries at once: those that failed, and are all of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryRequest {
    pub domain: Option<String>,
    pub kind: Option<String>,
    pub parent: Option<JobId>,
    /// Needed to retry every failed job there is.
    pub all: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryAnswer {
    /// Jobs that wait again.
    pub retried: u64,
    pub refused: u64,
    /// Why the first of those was refused.
    pub reason: Option<String>,
    /// The most was reached, and there are more.
    pub more: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DomainsView {
    /// Every running part, in the order of the tree.
    pub parts: Vec<Status>,
    pub stats: Stats,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleView {
    pub name: String,
    pub domain: String,
    pub kind: String,
    pub params: Value,
    /// A cron expression, or `every 300s`.
    pub when: String,
    pub zone: Option<String>,
    pub missed: Missed,
    pub last: Option<Timestamp>,
    pub next: Option<Timestamp>,
}

pub struct Admin {
    pub store: Arc<dyn Store>,
    pub board: Board,
    pub tree: Arc<dyn Tree>,
    pub schedules: SchedulesHandle,
    pub phases: Phases,
    pub domains: Vec<DomainInfo>,
}

impl Admin {
    /// Jobs, newest first. A limit of 0 is 50.
    pub async fn jobs(&self, filter: Filter) -> Result<Vec<JobView>, AdminError> {
        if filter.limit > LIST_MAX {
            return Err(AdminError::Bad(format!("limit is at most {LIST_MAX}: ask for the next page with `before`")));
        }
        let records = self.ledger().jobs(filter).await?;
        let parts = self.board.statuses();
        Ok(records.into_iter().map(|record| self.view(record, &parts)).collect())
    }

    /// One job, its history included.
    pub async fn job(&self, id: JobId) -> Result<JobView, AdminError> {
        let filter = Filter { ids: vec![id], limit: 1, ..Filter::default() };
        let found = self.jobs(filter).await?.pop();
        let mut view = found.ok_or(LedgerError::Missing(id))?;
        let Children { open, completed, failed, cancelled } = view.record.children;
        if open + completed + failed + cancelled > 0 {
            view.family = self.ledger().family(id).await?;
        }
        Ok(view)
    }

    pub async fn enqueue(&self, request: EnqueueRequest) -> Result<EnqueueAnswer, AdminError> {
        let EnqueueRequest { domain, kind, params, priority } = request;
        let info = self.domain(&domain).map_err(|error| AdminError::Bad(error.to_string()))?;
        if !info.kinds.contains(&kind) {
            return Err(AdminError::Bad(unknown("kind", &kind, &info.kinds)));
        }
        let params = match params {
            None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
            Some(Value::Object(params)) => Value::Object(params),
            Some(other) => return Err(AdminError::Bad(format!("params must be an object, not {other}"))),
        };
        let job = NewJob::new(domain, kind, params).priority(priority);
        match self.ledger().enqueue(vec![job], self.clock().now()).await?.first() {
            Some(Enqueued::New(id)) => Ok(EnqueueAnswer { id: *id, existing: false }),
            Some(Enqueued::Existing(id)) => Ok(EnqueueAnswer { id: *id, existing: true }),
            None => Err(AdminError::Broken("the ledger answered nothing for a job".to_owned())),
        }
    }

    /// Runs jobs again now, with fresh attempts. Each answers for itself.
    pub async fn retry(&self, ids: &[JobId]) -> Vec<(JobId, Result<(), AdminError>)> {
        self.change(ids, Change::Retry).await
    }

    /// Runs failed jobs again by filter, newest first.
    pub async fn retry_failed(&self, request: &RetryRequest) -> Result<RetryAnswer, AdminError> {
        retry_failed(&*self.ledger(), request, self.clock().now()).await
    }

    pub async fn cancel(&self, ids: &[JobId], reason: &str) -> Vec<(JobId, Result<(), AdminError>)> {
        self.change(ids, Change::Cancel { reason: reason.to_owned() }).await
    }

    async fn change(&self, ids: &[JobId], change: Change) -> Vec<(JobId, Result<(), AdminError>)> {
        let ledger = self.ledger();
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            let answer = ledger.change(*id, change.clone(), self.clock().now()).await;
            answers.push((*id, answer.map_err(AdminError::from)));
        }
        answers
    }

    pub async fn domains(&self) -> Result<DomainsView, AdminError> {
        let stats = self.ledger().stats().await?;
        Ok(DomainsView { parts: self.board.statuses(), stats })
    }

    pub async fn restart(&self, domain: &str) -> Result<(), AdminError> {
        self.tree.restart(&self.domain(domain)?.name).await
    }

    pub async fn park(&self, domain: &str) -> Result<(), AdminError> {
        self.tree.park(&self.domain(domain)?.name).await
    }

    pub async fn unpark(&self, domain: &str) -> Result<(), AdminError> {
        self.tree.unpark(&self.domain(domain)?.name).await
    }

    pub async fn resize(
        &self,
        domain: &str,
        stage: StageName,
        actors: usize,
        mailbox: usize,
    ) -> Result<(), AdminError> {
        let domain = self.domain(domain)?;
        if !(1..=ACTORS_MAX).contains(&actors) {
            return Err(AdminError::Bad(format!("actors is from 1 to {ACTORS_MAX}, not {actors}")));
        }
        if !(1..=MAILBOX_MAX).contains(&mailbox) {
            return Err(AdminError::Bad(format!("mailbox is from 1 to {MAILBOX_MAX}, not {mailbox}")));
        }
        self.tree.resize(&domain.name, stage, actors, mailbox).await
    }

    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, AdminError> {
        let now = self.clock().now();
        let mut views = Vec::new();
        for schedule in self.schedules.list().iter() {
            let Schedule { name, domain, kind, params, when, missed, priority: _, jitter: _, unique: _ } = schedule;
            views.push(ScheduleView {
                name: name.clone(),
                domain: domain.to_string(),
                kind: kind.to_string(),
                params: params.clone(),
                when: when.to_string(),
                zone: when.zone().map(str::to_owned),
                missed: *missed,
                last: self.store.last_fire(name).await?,
                next: when.next_after(now),
            });
        }
        Ok(views)
    }

    /// Records that were put aside, newest first.
    pub async fn rejects(&self, domain: Option<&str>, limit: usize) -> Result<Vec<RejectedRecord>, AdminError> {
        if limit > LIST_MAX {
            return Err(AdminError::Bad(format!("limit is at most {LIST_MAX}")));
        }
        let limit = if limit == 0 { 50 } else { limit };
        Ok(self.store.rejects(domain, limit).await?)
    }

    fn view(&self, record: JobRecord, parts: &[Status]) -> JobView {
        let progress = self.board.running_job(record.id).map(|running| running.progress);
        let why = self.why(&record, parts);
        JobView { record, progress, why, family: Vec::new() }
    }

    fn why(&self, record: &JobRecord, parts: &[Status]) -> Option<String> {
        match record.state {
            State::Waiting => self.why_waiting(record, parts),
            State::Active if record.owner.is_none() && record.children.open > 0 => {
                Some(format!("waits for {} of its children", record.children.open))
            }
            State::Active | State::Delayed | State::Completed | State::Failed | State::Cancelled => None,
        }
    }

    fn why_waiting(&self, record: &JobRecord, parts: &[Status]) -> Option<String> {
        let Some(domain) = self.domains.iter().find(|domain| domain.name == record.domain) else {
            return Some("no handler: no domain of this name runs here".to_owned());
        };
        if !domain.kinds.contains(&record.kind) {
            return Some(format!("no handler: unknown kind {:?}; it waits for a program that knows it", record.kind));
        }
        if self.phases.now() >= Phase::Quiet {
            return Some("the service is shutting down".to_owned());
        }
        let coordinator = parts.iter().find(|part| part.name == domain.name)?;
        judge(coordinator).err().map(|reason| format!("the domain is {reason}"))
    }

    fn domain(&self, name: &str) -> Result<&DomainInfo, AdminError> {
        let found = self.domains.iter().find(|domain| domain.name == name);
        found.ok_or_else(|| {
            let known: Vec<String> = self.domains.iter().map(|domain| domain.name.clone()).collect();
            AdminError::Missing(unknown("domain", name, &known))
        })
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        self.store.ledger()
    }

    fn clock(&self) -> &Clock {
        self.board.clock()
    }
}

/// See [`Admin::retry_failed`]; also for the command line where no service runs.
pub async fn retry_failed(
    ledger: &dyn Ledger,
    request: &RetryRequest,
    now: Timestamp,
) -> Result<RetryAnswer, AdminError> {
    let RetryRequest { domain, kind, parent, all } = request;
    if domain.is_none() && kind.is_none() && parent.is_none() && !all {
        return Err(AdminError::Bad("say which: a domain, a kind, a parent, or all".to_owned()));
    }
    let mut answer = RetryAnswer::default();
    let mut filter = Filter {
        domain: domain.clone(),
        kind: kind.clone(),
        parent: *parent,
        states: vec![State::Failed],
        limit: LIST_MAX,
        ..Filter::default()
    };
    loop {
        let failed = ledger.jobs(filter.clone()).await?;
        for job in &failed {
            if answer.retried + answer.refused >= RETRY_MAX {
                answer.more = true;
                return Ok(answer);
            }
            match ledger.change(job.id, Change::Retry, now).await {
                Ok(()) => answer.retried += 1,
                // Ended, pruned or retried meanwhile, or its key is taken: the others are not concerned.
                Err(error @ (LedgerError::Refused(_) | LedgerError::Missing(_))) => {
                    answer.refused += 1;
                    answer.reason.get_or_insert(error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        match failed.last() {
            Some(last) if failed.len() == LIST_MAX => filter.before = Some(last.id),
            Some(_) | None => return Ok(answer),
        }
    }
}

fn unknown(what: &str, typed: &str, known: &[String]) -> String {
    let typed_short: String = typed.chars().take(80).collect();
    let hint = suggest::nearest(typed, known.iter().map(String::as_str));
    let hint = hint.map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default();
    format!("there is no {what} {typed_short:?}{hint}; known: {}", known.join(", "))
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::schedule::fake::FakeStore;
    use crate::schedule::scheduler::Scheduler;
    use crate::schedule::when::When;
    use longshore_actors::status::{PartKind, PartState};
    use serde_json::json;

    /// 2026-03-01 00:00:00 UTC.
    pub const START: Timestamp = Timestamp(1_772_323_200_000);

    /// Writes down what it is told; refuses what concerns `down`.
    #[derive(Default)]
    pub struct FakeTree {
        pub told: Mutex<Vec<String>>,
    }

    impl FakeTree {
        fn tell(&self, domain: &str, text: String) -> BoxFuture<'_, Result<(), AdminError>> {
            self.told.lock().unwrap().push(text);
            let answer = match domain == "down" {
                true => Err(AdminError::Refused("down is parked already".to_owned())),
                false => Ok(()),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    impl Tree for FakeTree {
        fn restart(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>> {
            self.tell(domain, format!("restart {domain}"))
        }

        fn park(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>> {
            self.tell(domain, format!("park {domain}"))
        }

        fn unpark(&self, domain: &str) -> BoxFuture<'_, Result<(), AdminError>> {
            self.tell(domain, format!("unpark {domain}"))
        }

        fn resize(
            &self,
            domain: &str,
            stage: StageName,
            actors: usize,
            mailbox: usize,
        ) -> BoxFuture<'_, Result<(), AdminError>> {
            self.tell(domain, format!("resize {domain}/{stage} to {actors} x {mailbox}"))
        }
    }

    /// A door on fakes, with the domains `catalog` (two kinds, one schedule) and `down`.
    pub fn admin() -> (Admin, FakeStore, Arc<FakeTree>) {
        let (store, tree) = (FakeStore::default(), Arc::new(FakeTree::default()));
        let clock = Clock::following_tokio(START);
        let when = When::cron("0 3 1 * *", "Europe/Berlin").unwrap();
        let schedule = Schedule::new("catalog.full", "catalog", "catalog.full", when);
        let scheduler = Scheduler::new(vec![schedule], Arc::new(store.clone()), clock.clone());
        let domain = |name: &str, kinds: &[&str]| DomainInfo {
            name: name.to_owned(),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        };
        let admin = Admin {
            store: Arc::new(store.clone()),
            board: Board::new(clock),
            tree: tree.clone(),
            schedules: scheduler.handle(),
            phases: Phases::default(),
            domains: vec![domain("catalog", &["catalog.full", "catalog.group"]), domain("down", &["down.all"])],
        };
        (admin, store, tree)
    }

    pub fn request(domain: &str, kind: &str) -> EnqueueRequest {
        EnqueueRequest { domain: domain.into(), kind: kind.into(), params: None, priority: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_put_in_and_seen() {
        let (admin, _store, _tree) = admin();
        let params = Some(json!({ "group": "Standard Fixed" }));
        let answer = admin.enqueue(EnqueueRequest { params, ..request("catalog", "catalog.group") }).await.unwrap();
        assert_eq!(answer, EnqueueAnswer { id: JobId(1), existing: false });
        let job = admin.job(JobId(1)).await.unwrap();
        assert_eq!((job.record.state, job.record.params), (State::Waiting, json!({ "group": "Standard Fixed" })));
        assert_eq!((job.progress, job.why), (None, None));
        assert!(matches!(admin.job(JobId(9)).await, Err(AdminError::Missing(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_exist_is_refused_with_what_does() {
        let (admin, store, _tree) = admin();
        let text = |error: AdminError| match error {
            AdminError::Bad(text) | AdminError::Missing(text) => text,
            other => panic!("{other:?}"),
        };
        let domain = text(admin.enqueue(request("catalgo", "catalog.full")).await.unwrap_err());
        assert_eq!(domain, r#"there is no domain "catalgo" (did you mean "catalog"?); known: catalog, down"#);
        let kind = text(admin.enqueue(request("catalog", "full")).await.unwrap_err());
        assert!(kind.contains(r#"did you mean "catalog.full"?"#), "{kind}");
        let params = EnqueueRequest { params: Some(json!([1])), ..request("catalog", "catalog.full") };
        assert!(text(admin.enqueue(params).await.unwrap_err()).contains("must be an object, not [1]"));
        assert!(text(admin.park("nowhere").await.unwrap_err()).contains("known: catalog, down"));
        assert!(text(admin.resize("catalog", StageName::Fetch, 0, 1).await.unwrap_err()).contains("from 1 to 1024"));
        assert!(text(admin.resize("catalog", StageName::Fetch, 1, 1 << 20).await.unwrap_err()).contains("mailbox"));
        let filter = Filter { limit: LIST_MAX + 1, ..Filter::default() };
        assert!(text(admin.jobs(filter).await.unwrap_err()).contains("at most 500"));
        assert!(store.rows().jobs.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_does_not_run_says_why() {
        let (admin, store, _tree) = admin();
        for (domain, kind) in [("catalog", "catalog.gone"), ("other", "other.all"), ("catalog", "catalog.full")] {
            store.enqueue(vec![NewJob::new(domain, kind, json!({}))], START).await.unwrap();
        }
        let whys = async || -> Vec<Option<String>> {
            let jobs = admin.jobs(Filter::default()).await.unwrap();
            jobs.into_iter().rev().map(|job| job.why).collect()
        };
        let part = admin.board.part("catalog", PartKind::Coordinator);
        part.set(PartState::Busy);
        let seen = whys().await;
        assert!(seen[0].as_deref().unwrap().starts_with("no handler: unknown kind"));
        assert!(seen[1].as_deref().unwrap().starts_with("no handler"));
        assert_eq!(seen[2], None);
        part.set(PartState::Parked);
        part.say("5 restarts within 60s");
        assert_eq!(whys().await[2].as_deref(), Some("the domain is parked: 5 restarts within 60s"));
        store.set_state(JobId(3), State::Active);
        store.rows().jobs[2].children.open = 4;
        assert_eq!(whys().await[2].as_deref(), Some("waits for 4 of its children"));
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_are_retried_and_cancelled_each_for_itself() {
        let (admin, store, _tree) = admin();
        for _ in 0..2 {
            admin.enqueue(request("catalog", "catalog.full")).await.unwrap();
        }
        store.set_state(JobId(1), State::Failed);
        let answers = admin.retry(&[JobId(1), JobId(2), JobId(7)]).await;
        assert_eq!(answers[0].1, Ok(()));
        assert!(matches!(answers[1].1, Err(AdminError::Refused(_))));
        assert!(matches!(answers[2].1, Err(AdminError::Missing(_))));
        assert_eq!(admin.cancel(&[JobId(2)], "not wanted").await[0].1, Ok(()));
        assert_eq!(admin.job(JobId(2)).await.unwrap().record.message.as_deref(), Some("not wanted"));
    }

    #[tokio::test(start_paused = true)]
    async fn ready_is_judged_by_a_write_and_the_phase() {
        let (admin, store, _tree) = admin();
        admin.board.part("catalog", PartKind::Coordinator).set(PartState::Parked);
        admin.board.part("health/esim-go", PartKind::Dependency).set(PartState::Idle);
        let ready = admin.ready().await;
        assert!(ready.ready);
        let names: Vec<(&str, bool)> = ready.checks.iter().map(|check| (check.name.as_str(), check.ok)).collect();
        assert_eq!(names, [("store", true), ("phase", true), ("catalog", false), ("health/esim-go", true)]);
        store.set_down(Some("disk full"));
        let ready = admin.ready().await;
        assert!(!ready.ready && ready.checks[0].detail.contains("disk full"));
        store.set_down(None);
        admin.phases.enter(Phase::Drain);
        assert!(!admin.ready().await.ready);
    }

    #[tokio::test(start_paused = true)]
    async fn schedules_show_their_next_fire() {
        let (admin, _store, _tree) = admin();
        let schedules = admin.schedules().await.unwrap();
        assert_eq!((schedules[0].when.as_str(), schedules[0].zone.as_deref()), ("0 3 1 * *", Some("Europe/Berlin")));
        // 03:00 in Berlin, before the change to summer time.
        assert_eq!(schedules[0].next, Some(START.plus(Duration::from_secs(2 * 3600))));
        assert_eq!(schedules[0].last, None);
    }
}
