//! The supervision tree as a picture, from the names of its parts: `catalog`, `catalog/fetch`, `catalog/fetch/1`.

use std::cmp::Ordering;

use longshore_actors::clock::Timestamp;
use longshore_actors::status::{PartKind, PartState, Status};

use crate::cli::output::{Table, distance, short};

/// Draws all parts; a part whose parent is not listed stands under a bare name.
pub fn draw(parts: &[Status], now: Timestamp) -> String {
    let (roots, rest): (Vec<&Status>, Vec<&Status>) =
        parts.iter().partition(|part| part.kind == PartKind::Supervisor && !part.name.contains('/'));
    let root = roots.first().copied();
    let mut top =
        Branch { step: root.map_or("longshore", |part| part.name.as_str()), part: root, children: Vec::new() };
    for part in rest {
        // A part may name the root on its way, or leave it out.
        let path = part.name.strip_prefix(top.step).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&part.name);
        top.put(path, part);
    }
    top.sort();

    let mut table = Table::new(&["PART", "STATE", ">MAILBOX", ">RESTARTS", ">DONE", ">FAILED", "SINCE", "NOW"]);
    top.rows(String::new(), "", &mut table, now);
    table.render()
}

struct Branch<'a> {
    step: &'a str,
    part: Option<&'a Status>,
    children: Vec<Branch<'a>>,
}

impl<'a> Branch<'a> {
    fn put(&mut self, path: &'a str, part: &'a Status) {
        let (step, rest) = path.split_once('/').map_or((path, None), |(step, rest)| (step, Some(rest)));
        let at = self.children.iter().position(|child| child.step == step).unwrap_or_else(|| {
            self.children.push(Branch { step, part: None, children: Vec::new() });
            self.children.len() - 1
        });
        match rest {
            Some(rest) => self.children[at].put(rest, part),
            None => self.children[at].part = Some(part),
        }
    }

    fn sort(&mut self) {
        self.children.sort_by(|left, right| left.order(right));
        for child in &mut self.children {
            child.sort();
        }
    }

    /// Parts of the service, then domains, then what they depend on; numbers as numbers.
    fn order(&self, other: &Self) -> Ordering {
        let rank = |branch: &Self| match branch.part.map(|part| part.kind) {
            Some(PartKind::Supervisor | PartKind::Service) => 0,
            Some(PartKind::Coordinator | PartKind::Pool | PartKind::Worker) => 1,
            None => 2,
            Some(PartKind::Dependency) => 3,
        };
        let number = |branch: &Self| branch.step.parse::<u64>().ok();
        rank(self)
            .cmp(&rank(other))
            .then_with(|| number(self).cmp(&number(other)))
            .then_with(|| self.step.cmp(other.step))
    }

    /// `lead` is drawn before the children's own branches, `branch` before this name.
    fn rows(&self, lead: String, branch: &str, table: &mut Table, now: Timestamp) {
        let name = format!("{lead}{branch}{}", self.step);
        table.row(match self.part {
            Some(part) => cells(name, part, now),
            None => vec![name],
        });
        let lead = match branch {
            "" => lead,
            "└─ " => format!("{lead}   "),
            _ => format!("{lead}│  "),
        };
        for (i, child) in self.children.iter().enumerate() {
            let branch = if i + 1 == self.children.len() { "└─ " } else { "├─ " };
            child.rows(lead.clone(), branch, table, now);
        }
    }
}

fn cells(name: String, part: &Status, now: Timestamp) -> Vec<String> {
    let mailbox = if part.capacity > 0 { format!("{}/{}", part.depth, part.capacity) } else { "-".to_owned() };
    let job = part.job.map(|job| format!("job {job} "));
    let wake = part.next_wake.filter(|at| *at > now).map(|at| format!("wakes {} ", distance(at, now)));
    let last = part.last.clone();
    let doing: String = [job, wake, last].into_iter().flatten().collect();
    vec![
        name,
        word(part.state).to_owned(),
        mailbox,
        part.restarts.to_string(),
        part.done.to_string(),
        part.failed.to_string(),
        distance(part.since, now),
        short(&doing, 60),
    ]
}

fn word(state: PartState) -> &'static str {
    match state {
        PartState::Starting => "starting",
        PartState::Idle => "idle",
        PartState::Busy => "busy",
        PartState::Waiting => "waiting",
        PartState::Restarting => "restarting",
        PartState::Draining => "draining",
        PartState::Parked => "PARKED",
        PartState::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use longshore_actors::job::JobId;

    use super::*;

    fn part(name: &str, kind: PartKind, state: PartState) -> Status {
        Status {
            name: name.into(),
            kind,
            state,
            since: Timestamp(0),
            job: None,
            last: None,
            next_wake: None,
            done: 0,
            failed: 0,
            restarts: 0,
            depth: 0,
            capacity: 0,
        }
    }

    #[test]
    fn the_tree_is_drawn_in_the_order_of_the_service() {
        let parts = [
            part("upstream/esim-go", PartKind::Dependency, PartState::Idle),
            part("catalog", PartKind::Coordinator, PartState::Busy),
            Status { depth: 3, capacity: 8, ..part("catalog/fetch", PartKind::Pool, PartState::Busy) },
            part("catalog/fetch/10", PartKind::Worker, PartState::Idle),
            Status {
                job: Some(JobId(7)),
                last: Some("panic: boom\nat x.rs:1".into()),
                restarts: 2,
                done: 12,
                ..part("catalog/fetch/2", PartKind::Worker, PartState::Restarting)
            },
            part("catalog/upload", PartKind::Pool, PartState::Idle),
            Status { next_wake: Some(Timestamp(360_000)), ..part("scheduler", PartKind::Service, PartState::Idle) },
            part("supervisor", PartKind::Supervisor, PartState::Idle),
        ];
        let wanted = "\
PART           STATE       MAILBOX  RESTARTS  DONE  FAILED  SINCE   NOW
supervisor     idle              -         0     0       0  1m ago
├─ scheduler   idle              -         0     0       0  1m ago  wakes in 5m
├─ catalog     busy              -         0     0       0  1m ago
│  ├─ fetch    busy            3/8         0     0       0  1m ago
│  │  ├─ 2     restarting        -         2    12       0  1m ago  job 7 panic: boom at x.rs:1
│  │  └─ 10    idle              -         0     0       0  1m ago
│  └─ upload   idle              -         0     0       0  1m ago
└─ upstream
   └─ esim-go  idle              -         0     0       0  1m ago
";
        assert_eq!(draw(&parts, Timestamp(60_000)), wanted);
    }

    #[test]
    fn without_parts_there_is_a_root() {
        assert!(draw(&[], Timestamp(0)).ends_with("longshore\n"));
    }
}
