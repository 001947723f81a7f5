//! `longshore jobs`: list, show, retry, cancel.

use clap::Subcommand;
use longshore_actors::checkpoint::Counts;
use longshore_actors::clock::{Clock, Timestamp};
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Children, Filter, JobRecord, KindStats};
use serde_json::json;

use crate::admin::{LIST_MAX, RetryAnswer, RetryRequest};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Output, Table, distance, instant, short};
use crate::cli::remote::{Door, JobView};
use crate::cli::{Context, block_on};
use crate::config::Config;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Jobs, newest first
    List(List),
    /// One job with its progress and its history
    Show {
        #[arg(value_parser = id)]
        id: JobId,
    },
    /// Run finished or delayed jobs again now, with fresh attempts: these, or all failed ones that fit
    Retry {
        #[arg(value_parser = id, required_unless_present_any = ["failed", "domain", "kind", "parent"])]
        ids: Vec<JobId>,
        /// Every failed job
        #[arg(long, conflicts_with = "ids")]
        failed: bool,
        /// Failed jobs of this domain
        #[arg(long, conflicts_with = "ids")]
        domain: Option<String>,
        /// Failed jobs of this kind: products.family, or family alone
        #[arg(long, conflicts_with = "ids")]
        kind: Option<String>,
        /// Failed children of this job
        #[arg(long, conflicts_with = "ids", value_parser = id)]
        parent: Option<JobId>,
    },
    /// Cancel jobs that have not ended
    Cancel {
        #[arg(required = true, value_parser = id)]
        ids: Vec<JobId>,
        /// Kept with the job
        #[arg(long, default_value = "cancelled by the operator")]
        reason: String,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct List {
    /// waiting, delayed, active, completed, failed or cancelled; several with commas
    #[arg(long, value_delimiter = ',', value_parser = state)]
    pub state: Vec<State>,
    #[arg(long)]
    pub domain: Option<String>,
    /// catalog.group, or group alone
    #[arg(long)]
    pub kind: Option<String>,
    /// Children of this job
    #[arg(long, value_parser = id)]
    pub parent: Option<JobId>,
    /// Only jobs older than this one: the next page
    #[arg(long, value_parser = id)]
    pub before: Option<JobId>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=LIST_MAX as i64))]
    pub limit: u32,
}

fn id(text: &str) -> Result<JobId, String> {
    text.parse().map(JobId).map_err(|_| "a job's id is a whole number".to_owned())
}

fn state(text: &str) -> Result<State, String> {
    State::parse(text).ok_or_else(|| {
        format!("the states are {}", State::ALL.into_iter().map(State::as_str).collect::<Vec<_>>().join(", "))
    })
}

pub fn execute(args: Args, context: Context) -> Result<(), Failure> {
    let Context { config, output, .. } = context;
    block_on(async {
        let door = Door::open(&config).await?;
        match args.command {
            Command::List(list) => {
                let jobs = door.jobs(filter(list, &config)).await?;
                output.show(&json!({ "jobs": jobs }), || table(&jobs, Clock::system().now()))
            }
            Command::Show { id } => show(&door.job(id).await?, output),
            Command::Retry { ids, .. } if !ids.is_empty() => {
                each(&ids, output, "waiting again", async |id| door.retry(id).await).await
            }
            Command::Retry { ids: _, failed, domain, kind, parent } => {
                let kind = kind.map(|kind| full_kind(kind, domain.as_deref(), &config));
                let answer = door.retry_failed(&RetryRequest { domain, kind, parent, all: failed }).await?;
                retried(&answer, output)
            }
            Command::Cancel { ids, reason } => {
                each(&ids, output, "cancelled", async |id| door.cancel(id, &reason).await).await
            }
        }
    })
}

/// A short kind is completed by the domain, or by the one that has it.
fn full_kind(kind: String, domain: Option<&str>, config: &Config) -> String {
    let has_it = |name: &&str| config.domains.get(name).is_some_and(|domain| domain.jobs.contains_key(&kind));
    let owner = domain.or_else(|| config.domains.all().into_iter().map(|(name, _)| name).find(has_it));
    match owner {
        Some(owner) if !kind.contains('.') => format!("{owner}.{kind}"),
        Some(_) | None => kind,
    }
}

/// What became of a retry by filter; nothing to retry is no failure.
fn retried(answer: &RetryAnswer, output: Output) -> Result<(), Failure> {
    let RetryAnswer { retried, refused, reason, more } = answer;
    output.show(&json!(answer), || {
        let mut text = format!("{retried} failed jobs are waiting again");
        if let Some(reason) = reason {
            text.push_str(&format!(", {refused} are not: {reason}"));
        }
        if *more {
            text.push_str("; there are more: run it again");
        }
        text + "\n"
    })
}

fn filter(list: List, config: &Config) -> Filter {
    let List { state, domain, kind, parent, before, limit } = list;
    let kind = kind.map(|kind| full_kind(kind, domain.as_deref(), config));
    Filter { ids: Vec::new(), domain, kind, states: state, parent, before, limit: limit as usize }
}

/// Does `act` to each; one that is refused does not keep the others from it.
async fn each(
    ids: &[JobId],
    output: Output,
    done: &str,
    act: impl AsyncFn(JobId) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut changed = Vec::new();
    let mut refused = Vec::new();
    for id in ids {
        match act(*id).await {
            Ok(()) => changed.push(*id),
            // Nothing can be reached: so it will be for the others.
            Err(failure) if failure.exit == Exit::Unavailable => return Err(failure),
            Err(failure) => refused.push((*id, failure)),
        }
    }
    let list: Vec<_> = refused.iter().map(|(id, failure)| json!({ "id": id, "reason": failure.text })).collect();
    output.show(&json!({ "changed": changed, "refused": list }), || {
        changed.iter().map(|id| format!("job {id}: {done}\n")).collect()
    })?;
    if refused.is_empty() {
        return Ok(());
    }
    let lines = refused.iter().map(|(id, failure)| format!("job {id}: {}", failure.text));
    Err(Failure::failed(lines.collect::<Vec<_>>().join("\n")))
}

fn table(jobs: &[JobRecord], now: Timestamp) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let mut table = Table::new(&[">ID", "STATE", "KIND", "PARAMS", ">TRY", "WHEN", "ROWS", "MESSAGE"]);
    for job in jobs {
        table.row(vec![
            job.id.to_string(),
            job.state.to_string(),
            job.kind.clone(),
            params(job, 40),
            job.attempt.to_string(),
            distance(moment(job), now),
            counts(&job.counts),
            short(&message(job), 60),
        ]);
    }
    table.render()
}

/// The instant that tells most of a job in its state.
fn moment(job: &JobRecord) -> Timestamp {
    match job.state {
        State::Waiting => job.enqueued_at,
        State::Delayed => job.run_at,
        State::Active => job.started_at.unwrap_or(job.enqueued_at),
        State::Completed | State::Failed | State::Cancelled => job.finished_at.unwrap_or(job.enqueued_at),
    }
}

fn params(job: &JobRecord, most: usize) -> String {
    let Some(object) = job.params.as_object() else { return short(&job.params.to_string(), most) };
    let pairs = object.iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={value}"),
    });
    short(&pairs.collect::<Vec<_>>().join(" "), most)
}

fn message(job: &JobRecord) -> String {
    let cause = job.cause.map(|cause| format!("[{}] ", cause.as_str())).unwrap_or_default();
    format!("{cause}{}", job.message.as_deref().unwrap_or_default())
}

/// `5000 received: +4900 ~50 =0 -3 !47`, without what is zero.
fn counts(counts: &Counts) -> String {
    let Counts { received, inserted, updated, unchanged, removed, rejected, repeated } = *counts;
    if counts.is_zero() {
        return String::new();
    }
    let parts = [("+", inserted), ("~", updated), ("=", unchanged), ("-", removed), ("!", rejected), ("*", repeated)];
    let parts = parts.iter().filter(|(_, n)| *n > 0).map(|(sign, n)| format!(" {sign}{n}"));
    format!("{received}:{}", parts.collect::<String>())
}

/// `families 10/50, images 37/120, failed 2`: ended of all, by kind.
pub fn family_line(family: &[KindStats]) -> String {
    let kinds = family.iter().map(|stats| {
        let ended = stats.completed + stats.failed + stats.cancelled;
        format!("{} {ended}/{}", plural(stats.kind.rsplit('.').next().unwrap_or_default()), stats.total())
    });
    let mut parts: Vec<String> = kinds.collect();
    let failed: u64 = family.iter().map(|stats| stats.failed).sum();
    if failed > 0 {
        parts.push(format!("failed {failed}"));
    }
    parts.join(", ")
}

fn plural(noun: &str) -> String {
    match noun.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if noun.ends_with('s') => noun.to_owned(),
        None => format!("{noun}s"),
    }
}

fn show(view: &JobView, output: Output) -> Result<(), Failure> {
    let JobView { job, progress, why, family } = view;
    let mut json = serde_json::to_value(job).map_err(|error| Failure::internal(error.to_string()))?;
    json["progress"] = json!(progress);
    json["why"] = json!(why);
    json["family"] = json!(family);
    output.show(&json, || details(view, Clock::system().now()))
}

fn details(view: &JobView, now: Timestamp) -> String {
    let JobView { job, progress, why, family } = view;
    let at = |at: Timestamp| format!("{} ({})", instant(at), distance(at, now));
    let mut lines: Vec<(&str, String)> = vec![
        ("job", format!("{} {}", job.id, job.kind)),
        ("state", job.state.to_string()),
        ("params", short(&job.params.to_string(), 2_000)),
        ("attempt", job.attempt.to_string()),
        ("enqueued", at(job.enqueued_at)),
    ];
    let mut say =
        |name, text: Option<String>| lines.extend(text.filter(|text| !text.is_empty()).map(|text| (name, text)));
    say("because", why.clone());
    say("due", Some(at(job.run_at)).filter(|_| job.state == State::Delayed));
    say("started", job.started_at.map(at));
    say("finished", job.finished_at.map(at));
    say("parent", job.parent.map(|id| id.to_string()));
    say("unique key", job.unique_key.clone());
    say("owner", job.owner.clone());
    say("crashes", Some(job.crashes).filter(|crashes| *crashes > 0).map(|crashes| crashes.to_string()));
    say("progress", progress.as_ref().map(|it| format!("{} {}/{} {}", it.step, it.completed, it.total, it.message)));
    say("family", Some(family_line(family)));
    say("rows", Some(counts(&job.counts)));
    let Children { open, completed, failed, cancelled } = job.children;
    let children = format!("{open} open, {completed} completed, {failed} failed, {cancelled} cancelled");
    say("children", Some(children).filter(|_| job.children != Children::default()));
    say("message", Some(short(&message(job), 2_000)));

    let mut table = Table::new(&["", ""]);
    for (name, text) in lines {
        table.row(vec![name.to_owned(), text]);
    }
    let mut text = table.render().trim_start().to_owned();
    if !job.history.is_empty() {
        text.push_str("history\n");
        let mut table = Table::new(&["  WHEN", ">TRY", "OUTCOME", "REASON"]);
        for past in &job.history {
            let when = format!("  {}", instant(past.at));
            table.row(vec![when, past.attempt.to_string(), past.outcome.clone(), short(&past.reason, 200)]);
        }
        text.push_str(&table.render());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use longshore_actors::job::FailCause;
    use longshore_actors::ledger::Attempt;
    use longshore_actors::status::Progress;

    use super::*;

    fn job() -> JobRecord {
        JobRecord {
            id: JobId(42),
            domain: "catalog".into(),
            kind: "catalog.group".into(),
            params: json!({ "group": "Standard Fixed", "force": true }),
            state: State::Failed,
            priority: 0,
            unique_key: None,
            parent: Some(JobId(41)),
            attempt: 5,
            crashes: 0,
            run_at: Timestamp(0),
            enqueued_at: Timestamp(0),
            started_at: Some(Timestamp(1_000)),
            finished_at: Some(Timestamp(60_000)),
            fence: 5,
            owner: None,
            checkpoint: Default::default(),
            counts: Counts { received: 200, inserted: 199, rejected: 1, ..Counts::default() },
            children: Children::default(),
            message: Some("upstream answered 500\nInternal".into()),
            cause: Some(FailCause::Exhausted),
            history: vec![Attempt {
                attempt: 4,
                at: Timestamp(30_000),
                outcome: "retry".into(),
                reason: "timeout".into(),
            }],
        }
    }

    #[test]
    fn a_listing_has_one_line_a_job() {
        let text = table(&[job()], Timestamp(180_000));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().next(), Some("ID"));
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>().join(" "),
            "42 failed catalog.group force=true group=Standard Fixed 5 2m ago 200: +199 !1 [exhausted] upstream \
             answered 500 Internal"
        );
        assert_eq!(lines.len(), 2);
        assert_eq!(table(&[], Timestamp(0)), "no jobs\n");
    }

    #[test]
    fn a_job_shows_its_history_and_progress() {
        let progress = Progress { step: "pages".into(), completed: 3, total: 9, message: String::new() };
        let why = Some("waits for 4 of its children".to_owned());
        let stats = |kind: &str, completed, waiting, failed| KindStats {
            kind: kind.to_owned(),
            completed,
            waiting,
            failed,
            ..KindStats::default()
        };
        let family = vec![stats("products.family", 9, 40, 1), stats("products.image", 36, 83, 1)];
        let text = details(&JobView { job: job(), progress: Some(progress), why, family }, Timestamp(60_000));
        assert!(text.starts_with("job         42 catalog.group\n") || text.starts_with("job "), "{text}");
        for wanted in [
            "pages 3/9",
            "families 10/50, images 37/120, failed 2",
            "because   waits for 4",
            "parent",
            "1970-01-01T00:01:00Z (0s ago)",
            "history",
            "retry    timeout",
        ] {
            assert!(text.contains(wanted), "no `{wanted}` in:\n{text}");
        }
    }

    #[test]
    fn a_short_kind_is_completed() {
        let config = Config::load(&Default::default()).unwrap();
        let list = |domain: Option<&str>, kind: &str| List {
            state: vec![],
            domain: domain.map(str::to_owned),
            kind: Some(kind.into()),
            parent: None,
            before: None,
            limit: 50,
        };
        assert_eq!(filter(list(None, "group"), &config).kind.as_deref(), Some("catalog.group"));
        assert_eq!(filter(list(Some("other"), "x"), &config).kind.as_deref(), Some("other.x"));
        assert_eq!(filter(list(None, "catalog.full"), &config).kind.as_deref(), Some("catalog.full"));
    }

    #[tokio::test]
    async fn one_refused_job_does_not_keep_the_others() {
        let output = Output { json: false, quiet: true };
        let act = async |id: JobId| match id {
            JobId(2) => Err(Failure::failed("it has ended")),
            _ => Ok(()),
        };
        let failure = each(&[JobId(1), JobId(2), JobId(3)], output, "cancelled", act).await.unwrap_err();
        assert_eq!(failure, Failure::failed("job 2: it has ended"));
    }
}
