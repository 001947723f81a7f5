//! What a command prints: text or JSON to stdout, aligned tables, times for eyes. Never ANSI.

use std::io::Write;

use longshore_actors::clock::Timestamp;
use serde::Serialize;

use crate::cli::exit::Failure;
use crate::config::show_duration;

#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub json: bool,
    pub quiet: bool,
}

impl Output {
    /// Prints `value` with `--json`, or else the text, which ends its own lines.
    pub fn show(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.json { self.json(value) } else { self.text(&text()) }
    }

    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::internal(error.to_string()))?;
        self.text(&format!("{text}\n"))
    }

    pub fn text(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// For people, to stderr, so that stdout stays what a pipe wants; not with `--quiet`.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            // Nobody to tell: nothing to do about it.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

/// Columns as wide as their widest cell; the last one is not padded.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A heading that starts with `>` makes its column right-aligned.
    pub fn new(headings: &[&str]) -> Self {
        let right = headings.iter().map(|heading| heading.starts_with('>')).collect();
        let first = headings.iter().map(|heading| heading.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![first], right }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let (width, right) = (widths.get(i).copied().unwrap_or(0), self.right.get(i) == Some(&true));
                if i > 0 {
                    line.push_str("  ");
                }
                line.push_str(&if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// On one line, and no longer than `most` characters.
pub fn short(text: &str, most: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.chars().count() <= most {
        return clean;
    }
    let kept: String = clean.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// `2026-11-22T07:45:44Z`, or nothing for an instant no calendar holds.
pub fn instant(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

/// How far `at` is from `now`, by its largest unit: `3m ago`, `in 2h`.
pub fn distance(at: Timestamp, now: Timestamp) -> String {
    let gap = at.since(now).max(now.since(at));
    let seconds = gap.as_secs();
    let coarse = match seconds {
        0..60 => seconds,
        60..3_600 => seconds / 60 * 60,
        3_600..86_400 => seconds / 3_600 * 3_600,
        _ => seconds / 86_400 * 86_400,
    };
    let text = show_duration(std::time::Duration::from_secs(coarse));
    if at > now { format!("in {text}") } else { format!("{text} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&[">ID", "STATE", "MESSAGE"]);
        table.row(vec!["7".into(), "active".into(), String::new()]);
        table.row(vec!["1234".into(), "ö".into(), "x".into()]);
        assert_eq!(table.render(), "  ID  STATE   MESSAGE\n   7  active\n1234  ö       x\n");
    }

    #[test]
    fn texts_and_times_are_for_eyes() {
        assert_eq!(short("a\nb\u{1b}[31mc", 20), "a b [31mc");
        assert_eq!(short("abcdef", 4), "abc…");
        assert_eq!(instant(Timestamp(1_000)), "1970-01-01T00:00:01Z");
        assert_eq!(distance(Timestamp(0), Timestamp(185_000)), "3m ago");
        assert_eq!(distance(Timestamp(7_300_000), Timestamp(0)), "in 2h");
        assert_eq!(distance(Timestamp(5), Timestamp(5)), "0s ago");
    }
}
