//! Follows one job to its end, in this process or through a running service, and says what came of it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use longshore_actors::checkpoint::Counts;
use longshore_actors::events::{Event, Heard, Listener};
use longshore_actors::job::{JobId, State};
use longshore_actors::ledger::{Children, Filter, JobRecord};
use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::output::{Output, Table};
use crate::cli::remote::Door;

/// How often the ledger is asked when no event tells: a parent's end has none of its own.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// The job once it has ended. Events only make the asking prompt; what counts is what the ledger says.
pub async fn end_of(door: &Door, job: JobId, mut events: Option<Listener>) -> Result<JobRecord, Failure> {
    loop {
        let record = door.job(job).await?.job;
        if record.state.is_final() {
            return Ok(record);
        }
        let heard = async {
            match &mut events {
                Some(events) => loop {
                    match events.next().await {
                        Some(Heard::Event(event)) if !matches!(*event, Event::JobEnded { .. }) => {}
                        Some(Heard::Event(_) | Heard::Missed(_)) => return,
                        None => std::future::pending().await,
                    }
                },
                None => std::future::pending().await,
            }
        };
        // Either way the ledger is asked again; the deadline is the safety net under a lost event.
        let _ = tokio::time::timeout(ASK_EVERY, heard).await;
    }
}

/// The job's children, oldest first, and theirs.
pub async fn family_of(door: &Door, job: JobId) -> Result<Vec<JobRecord>, Failure> {
    let mut family = Vec::new();
    let mut parents = vec![job];
    let mut known = HashSet::from([job]);
    while let Some(parent) = parents.pop() {
        let mut before = None;
        loop {
            let filter = Filter { parent: Some(parent), before, limit: 200, ..Filter::default() };
            let page = door.jobs(filter).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            for child in page {
                if known.insert(child.id) {
                    let Children { open, completed, failed, cancelled } = child.children;
                    if open + completed + failed + cancelled > 0 {
                        parents.push(child.id);
                    }
                    family.push(child);
                }
            }
        }
    }
    family.sort_by_key(|record| record.id);
    Ok(family)
}

/// Jobs of one kind that have a line each; more of them are summed up.
const SINGLE_MAX: usize = 25;

/// Prints the result of a sync: a line for the job and each of its children, or for all of a kind where they are many.
pub fn show(output: Output, record: &JobRecord, family: &[JobRecord]) -> Result<(), Failure> {
    output.show(&json!({ "job": record, "children": family }), || {
        let headings = [
            "job",
            "kind",
            "what",
            "state",
            "received",
            "inserted",
            "updated",
            "unchanged",
            "removed",
            "rejected",
            "repeated",
            "",
        ];
        let mut table = Table::new(&headings);
        let mut kinds: BTreeMap<&str, Vec<&JobRecord>> = BTreeMap::new();
        for job in family {
            kinds.entry(&job.kind).or_default().push(job);
        }
        for job in std::iter::once(record).chain(family) {
            match kinds.get(job.kind.as_str()) {
                Some(many) if many.len() > SINGLE_MAX && job.id != record.id => {
                    // In the place of the first.
                    if many[0].id == job.id {
                        table.row(many_line(many));
                    }
                }
                Some(_) | None => table.row(line(job)),
            }
        }
        table.render()
    })
}

fn line(job: &JobRecord) -> Vec<String> {
    let head = [job.id.to_string(), job.kind.clone(), what(job), job.state.to_string()];
    let message = job.message.clone().unwrap_or_default();
    head.into_iter().chain(figures(&job.counts)).chain([message]).collect()
}

/// All jobs of a kind in one line: their states, the sums of their own counts, and why the first of them failed.
fn many_line(jobs: &[&JobRecord]) -> Vec<String> {
    let mut counts = Counts::default();
    jobs.iter().for_each(|job| counts.add(&job.checkpoint.counts));
    let states = State::ALL.into_iter().filter_map(|state| {
        let count = jobs.iter().filter(|job| job.state == state).count();
        (count > 0).then(|| format!("{count} {state}"))
    });
    let states = states.collect::<Vec<_>>().join(", ");
    let failed = jobs.iter().find(|job| job.state != State::Completed);
    let message = failed.map(|job| format!("job {}: {}", job.id, job.message.as_deref().unwrap_or_default()));
    let head = [format!("{} jobs", jobs.len()), jobs[0].kind.clone(), String::new(), states];
    head.into_iter().chain(figures(&counts)).chain([message.unwrap_or_default()]).collect()
}

fn figures(counts: &Counts) -> [String; 7] {
    let Counts { received, inserted, updated, unchanged, removed, rejected, repeated } = *counts;
    [received, inserted, updated, unchanged, removed, rejected, repeated].map(|count| count.to_string())
}

/// The params that tell siblings apart.
fn what(job: &JobRecord) -> String {
    let Some(params) = job.params.as_object() else { return String::new() };
    let texts: Vec<&str> = params.values().filter_map(|value| value.as_str()).collect();
    texts.join(" ")
}

/// A sync went well if the job completed and none of its family failed.
pub fn verdict(record: &JobRecord, family: &[JobRecord]) -> Result<(), Failure> {
    let failed: Vec<&JobRecord> =
        std::iter::once(record).chain(family).filter(|job| job.state != State::Completed).collect();
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure::failed(format!(
            "{} of {} jobs did not complete; job {} ({}) {}: {}; see `longshore jobs show {}`",
            failed.len(),
            family.len() + 1,
            first.id,
            first.kind,
            first.state,
            first.message.as_deref().unwrap_or("no reason given"),
            first.id,
        ))),
    }
}
