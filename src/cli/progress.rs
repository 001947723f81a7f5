//! Progress of running jobs: bars on a terminal, a line of the log now and then elsewhere.
//!
//! ```text
//! events ─▶ Picture (what is known) ─┬─▶ Bars   one a stage, one a running job, on stderr
//!                                    └─▶ a line at most every two seconds
//! ```
//!
//! It only listens: a terminal that is slow makes it lose events, which it says, and never holds up the work.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use longshore_actors::checkpoint::Counts;
use longshore_actors::events::{Event, Heard, Listener};
use longshore_actors::job::{JobId, Name};
use longshore_actors::stage::StageName;
use tokio::time::MissedTickBehavior;

use crate::telemetry::{Screen, Telemetry};

/// Between two lines where there are no bars.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// Jobs with a bar of their own; more would push the stages off a small terminal.
const JOBS_SHOWN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Bars,
    Lines,
    /// Listens, and says nothing.
    Quiet,
}

impl Mode {
    /// Bars if stderr is a terminal that can move its cursor.
    pub fn fitting(quiet: bool) -> Mode {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match quiet {
            true => Mode::Quiet,
            false if std::io::stderr().is_terminal() && !dumb => Mode::Bars,
            false => Mode::Lines,
        }
    }
}

/// Shows what it hears until the last sender of events is gone; dropping the future takes the bars away.
pub async fn watch(mut listener: Listener, telemetry: Telemetry, mode: Mode) {
    let mut picture = Picture::default();
    let mut bars = match mode {
        Mode::Bars => Some(Bars::new(telemetry.screen.clone())),
        Mode::Lines | Mode::Quiet => None,
    };
    let mut ticks = tokio::time::interval(LINE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        tokio::select! {
            heard = listener.next() => match heard {
                Some(Heard::Event(event)) => {
                    picture.take(&event);
                    if let Some(bars) = &mut bars {
                        bars.draw(&picture);
                    }
                }
                Some(Heard::Missed(count)) => picture.missed += count,
                None => break,
            },
            _ = ticks.tick(), if mode == Mode::Lines => picture.log(&mut said),
        }
    }
    if mode == Mode::Lines {
        picture.log(&mut said);
    }
}

/// What the events add up to.
#[derive(Debug, Default)]
pub struct Picture {
    running: BTreeMap<JobId, Row>,
    /// Pages known, of jobs that have ended.
    pages_before: u64,
    fetched: u64,
    transformed: u64,
    uploaded: u64,
    completed: u64,
    /// Tries that did not end well.
    troubled: u64,
    counts: Counts,
    restarts: u64,
    missed: u64,
}

#[derive(Debug)]
struct Row {
    kind: Name,
    step: String,
    completed: u64,
    total: u64,
    message: String,
}

impl Picture {
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::JobStarted { job, kind, .. } => {
                let row =
                    Row { kind: kind.clone(), step: String::new(), completed: 0, total: 0, message: String::new() };
                self.running.insert(*job, row);
            }
            Event::JobProgress { job, kind, progress, .. } => {
                let longshore_actors::status::Progress { step, completed, total, message } = progress.clone();
                self.running
                    .insert(*job, Row { kind: kind.clone(), step: step.into_owned(), completed, total, message });
            }
            Event::PageDone { stage, .. } => *self.done_mut(*stage) += 1,
            Event::JobEnded { job, outcome, counts, .. } => {
                let row = self.running.remove(job);
                let (total, done) = row.map_or((0, 0), |row| (row.total, row.completed));
                match *outcome {
                    "completed" => {
                        self.completed += 1;
                        self.pages_before += total;
                    }
                    "failed" | "cancelled" => {
                        self.troubled += 1;
                        self.pages_before += done;
                    }
                    // It comes back, and its pages and counts with it.
                    _ => {
                        self.troubled += 1;
                        return;
                    }
                }
                self.counts.add(counts);
            }
            Event::Restarted { .. } => self.restarts += 1,
            Event::JobWarned { .. }
            | Event::Parked { .. }
            | Event::Unparked { .. }
            | Event::BreakerChanged { .. }
            | Event::Resized { .. }
            | Event::Phase { .. } => {}
        }
    }

    fn done_mut(&mut self, stage: StageName) -> &mut u64 {
        match stage {
            StageName::Fetch => &mut self.fetched,
            StageName::Transform => &mut self.transformed,
            StageName::Upload => &mut self.uploaded,
        }
    }

    fn done(&self, stage: StageName) -> u64 {
        match stage {
            StageName::Fetch => self.fetched,
            StageName::Transform => self.transformed,
            StageName::Upload => self.uploaded,
        }
    }

    /// Pages known so far; never fewer than are done.
    fn pages(&self) -> u64 {
        let known = self.pages_before + self.running.values().map(|row| row.total).sum::<u64>();
        known.max(self.fetched).max(self.transformed).max(self.uploaded)
    }

    /// `12 of 40 pages, 3 jobs running, 2 completed`.
    pub fn summary(&self) -> String {
        let mut text = format!("{} of {} pages, {} jobs running", self.uploaded, self.pages(), self.running.len());
        for (count, what) in [
            (self.completed, "completed"),
            (self.troubled, "to try again or failed"),
            (self.restarts, "workers restarted"),
            (self.missed, "events missed"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text
    }

    /// Writes the summary if it differs from what was said last.
    fn log(&self, said: &mut String) {
        let summary = self.summary();
        let anything = self.completed + self.troubled + self.uploaded > 0 || !self.running.is_empty();
        if anything && summary != *said {
            tracing::info!(target: "longshore::progress", "{summary}");
            *said = summary;
        }
    }
}

/// The bars on the terminal; gone when dropped.
struct Bars {
    screen: Screen,
    all: MultiProgress,
    stages: Vec<(StageName, ProgressBar)>,
    jobs: BTreeMap<JobId, ProgressBar>,
}

impl Bars {
    fn new(screen: Screen) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let stages = StageName::ALL.map(|stage| {
            let bar = all.add(ProgressBar::new(0).with_style(style("{prefix:>10} [{bar:32}] {pos}/{len} pages {msg}")));
            bar.set_prefix(stage.as_str());
            (stage, bar)
        });
        screen.show_bars(all.clone());
        Self { screen, all, stages: stages.into(), jobs: BTreeMap::new() }
    }

    fn draw(&mut self, picture: &Picture) {
        for (stage, bar) in &self.stages {
            bar.set_length(picture.pages());
            bar.set_position(picture.done(*stage));
        }
        if let Some((_, last)) = self.stages.last() {
            let Counts { inserted, updated, unchanged, rejected, .. } = picture.counts;
            last.set_message(format!("{inserted} new, {updated} changed, {unchanged} the same, {rejected} rejected"));
        }
        self.jobs.retain(|job, bar| {
            let runs = picture.running.contains_key(job);
            if !runs {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            runs
        });
        for (job, row) in &picture.running {
            if !self.jobs.contains_key(job) && self.jobs.len() >= JOBS_SHOWN {
                continue;
            }
            let bar = self
                .jobs
                .entry(*job)
                .or_insert_with(|| self.all.add(ProgressBar::new(0).with_style(style("{prefix:>10} {wide_msg}"))));
            bar.set_prefix(format!("job {job}"));
            let Row { kind, step, completed, total, message } = row;
            bar.set_message(format!("{kind} {step} {completed}/{total} {message}"));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.screen.hide_bars();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use longshore_actors::events::Events;
    use longshore_actors::status::Progress;

    use super::*;
    use crate::telemetry::{Format, build};

    fn progress(job: i64, completed: u64, total: u64) -> Event {
        let progress = Progress { step: "pages".into(), completed, total, message: String::new() };
        Event::JobProgress { job: JobId(job), domain: "catalog".into(), kind: "catalog.group".into(), progress }
    }

    fn page(job: i64, stage: StageName) -> Event {
        Event::PageDone { job: JobId(job), domain: "catalog".into(), stage, page: 0 }
    }

    fn ended(job: i64, outcome: &'static str) -> Event {
        Event::JobEnded {
            job: JobId(job),
            domain: "catalog".into(),
            kind: "catalog.group".into(),
            attempt: 1,
            outcome,
            reason: None,
            counts: Counts { received: 5, inserted: 5, ..Counts::default() },
            took: Duration::ZERO,
        }
    }

    #[test]
    fn the_picture_adds_up() {
        let mut picture = Picture::default();
        for event in [
            progress(1, 0, 4),
            progress(2, 0, 6),
            page(1, StageName::Fetch),
            page(1, StageName::Transform),
            page(1, StageName::Upload),
            page(2, StageName::Fetch),
            ended(2, "retry"),
            progress(2, 1, 6),
            ended(1, "completed"),
        ] {
            picture.take(&event);
        }
        assert_eq!((picture.pages(), picture.done(StageName::Fetch), picture.counts.inserted), (10, 2, 5));
        assert_eq!(picture.summary(), "1 of 10 pages, 1 jobs running, 1 completed, 1 to try again or failed");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_terminal_there_is_a_line_now_and_then() {
        let (screen, written) = Screen::memory();
        let (subscriber, telemetry) = build("info", Format::Text, screen).unwrap();
        let _guard = tracing::subscriber::set_default(subscriber);
        let events = Events::new(1_000);
        let watching = tokio::spawn(watch(events.listen(), telemetry, Mode::Lines));
        for i in 0..100 {
            events.tell(|| progress(1, i, 100));
            events.tell(|| page(1, StageName::Upload));
            tokio::time::advance(Duration::from_millis(50)).await;
            tokio::task::yield_now().await;
        }
        events.tell(|| ended(1, "completed"));
        drop(events);
        watching.await.unwrap();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines = text.lines().count();
        assert!((2..=5).contains(&lines), "5 seconds gave {lines} lines:\n{text}");
        assert!(text.trim_end().ends_with("100 of 100 pages, 0 jobs running, 1 completed"), "{text}");
    }

    #[test]
    fn bars_and_log_lines_share_the_screen() {
        let (screen, written) = Screen::memory();
        let mut bars = Bars::new(screen.clone());
        let mut picture = Picture::default();
        picture.take(&progress(1, 1, 2));
        bars.draw(&picture);
        assert_eq!(bars.jobs.len(), 1);
        screen.write("a line\n");
        picture.take(&ended(1, "completed"));
        bars.draw(&picture);
        assert!(bars.jobs.is_empty());
        drop(bars);
        assert_eq!(*written.lock().unwrap(), b"a line\n");
    }
}
