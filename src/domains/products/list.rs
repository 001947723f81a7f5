//! What the list says of one supplier: which families changed, and whether all of it was read.
//!
//! ```text
//! entry ─▶ of another supplier? dropped
//!      └─▶ ours ─▶ pending ──known hashes──▶ changed, or only seen
//! ```
//!
//! Memory holds the keys of this supplier and the lines that changed, never the list. Of two lines with one SKU the
//! last wins.
//!
//! **What may hide a line of ours** counts as missing, and then nothing is removed: a line that nobody can read, one of
//! ours without its hash, a last line cut short (whatever stood after it is gone), an end that was not announced.

use std::collections::{BTreeMap, HashSet};

use longshore_actors::ledger::Reject;

use crate::domains::products::feed::{Entry, entry};
use crate::domains::products::model::{Code, Families, Family, Sku};
use crate::upstreams::Validators;

/// Asked for together: one question to the store for so many lines.
pub const COMPARED: usize = 4096;

/// The list as it is read for one supplier.
pub struct List {
    code: Code,
    /// Every family counts as changed.
    force: bool,
    seen: HashSet<Sku>,
    /// Lines that are not compared yet.
    pending: Vec<Family>,
    changed: BTreeMap<Sku, Family>,
    rejects: Vec<Reject>,
    received: u64,
    repeated: u64,
    unreadable: u64,
    /// Lines of ours whose hash is missing or wrong.
    malformed: u64,
    cut: bool,
    /// Lines that were read, of any supplier.
    read: u64,
}

/// The list when it has ended.
pub struct Ended {
    pub families: Families,
    /// Of this supplier in all, so far as can be told: more than were received when lines may be hidden.
    pub total: u64,
    pub warning: Option<String>,
}

impl List {
    pub fn new(code: Code, force: bool) -> Self {
        Self {
            code,
            force,
            seen: HashSet::new(),
            pending: Vec::new(),
            changed: BTreeMap::new(),
            rejects: Vec::new(),
            received: 0,
            repeated: 0,
            unreadable: 0,
            malformed: 0,
            cut: false,
            read: 0,
        }
    }

    /// Takes a line. `hide` writes `{profile}` for the secret of the address; `allows` says whether a host is on the
    /// list.
    pub fn line(&mut self, line: &[u8], hide: impl Fn(&str) -> String, allows: impl Fn(&str) -> bool) {
        match entry(line) {
            Entry::Blank => {}
            Entry::Categories(_) | Entry::Other => self.read += 1,
            Entry::Unreadable => self.unreadable += 1,
            Entry::Family { code, .. } if !code.eq_ignore_ascii_case(self.code.as_str()) => self.read += 1,
            Entry::Family { sku, url, hash, .. } => {
                self.read += 1;
                self.received += 1;
                let raw = || hide(String::from_utf8_lossy(line).trim());
                let Some(key) = Sku::parse(sku) else {
                    self.malformed += 1;
                    return self.reject(None, "its file has a name that is no SKU".to_owned(), raw());
                };
                if !self.seen.insert(key.clone()) {
                    self.repeated += 1;
                }
                let hash = match hash {
                    Ok(hash) => hash,
                    Err(problem) => {
                        self.malformed += 1;
                        return self.reject(Some(sku), problem.to_owned(), raw());
                    }
                };
                let host = host(url);
                if !allows(host) {
                    let reason = format!("the host {host} is not on the list (domains.products.hosts)");
                    return self.reject(Some(sku), reason, raw());
                }
                let (supplier_code, product_hash) = (self.code.clone(), hash.to_owned());
                self.pending.push(Family { sku: key, url: hide(url), product_hash, supplier_code, force: false });
            }
        }
    }

    /// Takes what stands after the last end of a line. Most lists have nothing there, or a whole line.
    pub fn last(&mut self, line: &[u8], hide: impl Fn(&str) -> String, allows: impl Fn(&str) -> bool) {
        self.cut = match entry(line) {
            Entry::Unreadable | Entry::Family { hash: Err(_), .. } => true,
            Entry::Blank | Entry::Categories(_) | Entry::Other | Entry::Family { hash: Ok(_), .. } => false,
        };
        self.line(line, hide, allows);
    }

    /// The SKUs to be compared next, once there are enough of them or `all` is said.
    pub fn to_compare(&self, all: bool) -> Option<Vec<Sku>> {
        let enough = if all { !self.pending.is_empty() } else { self.pending.len() >= COMPARED };
        enough.then(|| self.pending.iter().map(|family| family.sku.clone()).collect())
    }

    /// Takes the hashes that stand, in the order of [`List::to_compare`].
    pub fn compare(&mut self, known: Vec<Option<String>>) {
        for (family, known) in std::mem::take(&mut self.pending).into_iter().zip(known) {
            if self.force || known.as_deref() != Some(family.product_hash.as_str()) {
                self.changed.insert(family.sku.clone(), family);
            } else {
                // An earlier line of this SKU may have differed.
                self.changed.remove(&family.sku);
            }
        }
    }

    /// Nothing in it was a line of a list: a page of something in between.
    pub fn is_none(&self) -> bool {
        self.read == 0 && self.unreadable > 0
    }

    /// `announced`: the body ended where it said that it would.
    pub fn end(self, announced: bool, version: Validators) -> Ended {
        let Self { code, seen, changed, rejects, received, repeated, unreadable, malformed, cut, .. } = self;
        let hidden = unreadable + malformed + u64::from(cut) + u64::from(!announced);
        let mut warnings = Vec::new();
        let mut warn = |holds: bool, text: String| {
            if holds {
                warnings.push(text);
            }
        };
        warn(received == 0, format!("the list has no family of {code}"));
        warn(cut, "the list breaks off in its last line".to_owned());
        warn(!announced, "the list ended without an end that was announced".to_owned());
        warn(unreadable > u64::from(cut), format!("{unreadable} lines of the list could not be read"));
        warn(malformed > 0, format!("{malformed} lines of {code} are malformed"));
        warn(repeated > 0, format!("{repeated} lines of {code} came again: the last one counts"));
        let in_step = changed.is_empty() && rejects.is_empty() && hidden == 0 && received > 0;
        let mut seen: Vec<String> = seen.into_iter().map(String::from).collect();
        seen.sort_unstable();
        let families = Families {
            code,
            received,
            seen,
            changed: changed.into_values().collect(),
            rejects,
            version: in_step.then_some(version),
        };
        let total = if received == 0 { 0 } else { received + hidden };
        Ended { families, total, warning: (!warnings.is_empty()).then(|| warnings.join("; ")) }
    }

    fn reject(&mut self, key: Option<&str>, reason: String, raw: String) {
        self.rejects.push(Reject { key: key.map(str::to_owned), reason, raw });
    }
}

/// Host and port of an address that `entry` took for one.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hash(n: u32) -> String {
        format!("{n:040X}")
    }

    fn line(code: &str, sku: &str, n: u32) -> String {
        format!("https://h.example/Live/guid/{code}/{sku}.json|{}", hash(n))
    }

    /// The list of A23, where the store knows hash 1 of each SKU that is asked for.
    fn read(lines: &[String], last: &str) -> Ended {
        let mut list = List::new(Code::parse("A23").unwrap(), false);
        let hide = |text: &str| text.replace("guid", "{profile}");
        let allows = |host: &str| host == "h.example";
        for line in lines {
            list.line(line.as_bytes(), hide, allows);
        }
        list.last(last.as_bytes(), hide, allows);
        let asked = list.to_compare(true).map_or(0, |skus| skus.len());
        list.compare(vec![Some(hash(1)); asked]);
        assert!(list.to_compare(true).is_none());
        list.end(true, Validators { etag: Some("v".into()), last_modified: None })
    }

    #[test]
    fn only_what_changed_is_asked_for_and_all_of_ours_is_seen() {
        let cat = "https://h.example/Live/guid/Import/CAT.csv".to_owned();
        let ended =
            read(&[cat, line("A23", "A23-1", 1), line("A24", "A24-1", 2), line("A23", "A23-2", 2), String::new()], "");
        let families = &ended.families;
        assert_eq!(
            (families.seen.as_slice(), families.received, ended.total),
            (&["A23-1".to_owned(), "A23-2".to_owned()][..], 2, 2)
        );
        let [changed] = families.changed.as_slice() else { panic!("{:?}", families.changed) };
        assert_eq!(changed.url, "https://h.example/Live/{profile}/A23/A23-2.json");
        assert_eq!((changed.product_hash.clone(), ended.warning), (hash(2), None));
        assert!(families.version.is_none(), "not in step before the family is");
        let ended = read(&[line("A23", "A23-1", 1)], &line("A23", "A23-2", 1));
        assert_eq!((ended.families.changed.len(), ended.families.version.is_some(), ended.total), (0, true, 2));
    }

    #[test]
    fn of_two_lines_the_last_wins() {
        let ended = read(&[line("A23", "A23-1", 2), line("A23", "A23-1", 1)], "");
        assert_eq!((ended.families.changed.len(), ended.families.seen.len(), ended.total), (0, 1, 2));
        assert_eq!(ended.warning.as_deref(), Some("1 lines of A23 came again: the last one counts"));
        let ended = read(&[line("A23", "A23-1", 1), line("A23", "A23-1", 2)], "");
        assert_eq!(ended.families.changed.len(), 1);
    }

    #[test]
    fn what_may_hide_a_line_of_ours_counts_as_missing() {
        let good = || vec![line("A23", "A23-1", 1)];
        let with = |more: &str| [good(), vec![more.to_owned()]].concat();
        for (lines, last, missing, rejected) in [
            (good(), "", 0, 0),
            (with("what is this"), "", 1, 0),
            (with("https://h.example/Live/guid/A23/A23-2.json"), "", 1, 1),
            (with("https://h.example/Live/guid/A23/A23-2.json|12"), "", 1, 1),
            // Surely of another supplier.
            (with("https://h.example/Live/guid/A24/A24-2.json"), "", 0, 0),
            (good(), "https://h.example/Live/guid/A24/A24-2.json|12AB", 1, 0),
            (good(), "https://h.exa", 2, 0),
            (good(), "https://h.example/Live/guid/A23/A23-2.json|12AB", 2, 1),
        ] {
            let ended = read(&lines, last);
            assert_eq!(ended.total - ended.families.received, missing, "{lines:?} {last}");
            assert_eq!(ended.families.rejects.len(), rejected, "{lines:?} {last}");
            assert_eq!(ended.warning.is_some(), missing > 0);
            assert_eq!(ended.families.version.is_some(), missing == 0);
        }
        let mut list = List::new(Code::parse("A23").unwrap(), false);
        list.line(line("A23", "A23-1", 1).as_bytes(), str::to_owned, |_| true);
        list.compare(vec![Some(hash(1))]);
        let ended = list.end(false, Validators::default());
        assert_eq!((ended.total, ended.families.version), (2, None));
    }

    #[test]
    fn a_line_to_another_host_is_put_aside_and_is_not_taken_for_vanished() {
        let stray = format!("https://169.254.169.254/guid/A23/A23-2.json|{}", hash(9));
        let ended = read(&[line("A23", "A23-1", 1), stray], "");
        let [reject] = ended.families.rejects.as_slice() else { panic!() };
        assert_eq!(reject.key.as_deref(), Some("A23-2"));
        assert!(reject.reason.contains("169.254.169.254") && reject.raw.contains("{profile}"), "{reject:?}");
        assert!(ended.families.changed.is_empty() && ended.families.seen.contains(&"A23-2".to_owned()));
        assert_eq!(ended.total, ended.families.received);
    }

    #[test]
    fn a_list_without_the_supplier_is_a_warning_and_a_page_of_html_is_no_list() {
        let ended = read(&[line("A24", "A24-1", 1)], "");
        assert_eq!((ended.total, ended.families.version.is_none()), (0, true));
        assert_eq!(ended.warning.as_deref(), Some("the list has no family of A23"));
        let mut list = List::new(Code::parse("A23").unwrap(), false);
        list.line(b"<html>", str::to_owned, |_| true);
        assert!(list.is_none());
        list.line(line("A24", "A24-1", 1).as_bytes(), str::to_owned, |_| true);
        assert!(!list.is_none());
    }
}
