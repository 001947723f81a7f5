//! The list of all families, `Import.txt`, line by line as it comes.
//!
//! ```text
//! pieces of the body ──Lines──▶ lines ──entry──▶ CAT.csv | a family: supplier, SKU, address, hash | other | unreadable
//! ```
//!
//! | line | is |
//! | --- | --- |
//! | `https://…/<ANumber>/<Sku>.json\|<40 hex>` | a family |
//! | `https://…/CAT.csv`, with or without a hash; the first line as a rule | the categories |
//! | another address with its hash | of no interest |
//! | empty | nothing |
//!
//! Ends of lines are LF or CRLF, and a byte order mark may stand before the first. The order means nothing.
//!
//! It holds one line at a time and decides nothing about what is missing; that is [`super::list`].

use crate::domains::products::model::is_code;

/// Longer lines are cut, and then are no line of the list. The longest known has 130 bytes.
const LINE_MAX: usize = 4096;

/// Puts the pieces of a body together to lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line whose end has not come yet, at most [`LINE_MAX`] of it.
    rest: Vec<u8>,
}

impl Lines {
    /// Tells each line that ends within `piece`.
    pub fn push(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = part.strip_suffix(b"\n") else {
                self.keep(part);
                return;
            };
            if self.rest.is_empty() {
                each(&line[..line.len().min(LINE_MAX)]);
            } else {
                self.keep(line);
                each(&self.rest);
                self.rest.clear();
            }
        }
    }

    /// What stands after the last end of a line.
    pub fn rest(self) -> Vec<u8> {
        self.rest
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE_MAX.saturating_sub(self.rest.len());
        self.rest.extend_from_slice(&part[..part.len().min(room)]);
    }
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Blank,
    /// The address of CAT.csv.
    Categories(&'a str),
    Family {
        code: &'a str,
        sku: &'a str,
        url: &'a str,
        hash: Result<&'a str, &'static str>,
    },
    /// Whole, and no family.
    Other,
    /// Nobody can say whose line it is.
    Unreadable,
}

pub fn entry(line: &[u8]) -> Entry<'_> {
    let Ok(line) = std::str::from_utf8(line) else { return Entry::Unreadable };
    let line = line.trim_start_matches('\u{feff}').trim();
    if line.is_empty() {
        return Entry::Blank;
    }
    let (url, hash) = match line.rsplit_once('|') {
        Some((url, hash)) => (url.trim_end(), checked(hash.trim_start())),
        None => (line, Err("no hash")),
    };
    let lost = if hash.is_ok() { Entry::Other } else { Entry::Unreadable };
    let Some(path) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return Entry::Unreadable;
    };
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let mut segments = path.rsplit('/');
    let (Some(file), Some(folder)) = (segments.next(), segments.next()) else { return Entry::Unreadable };
    if file.eq_ignore_ascii_case("CAT.csv") {
        return Entry::Categories(url);
    }
    let stem = file.len().checked_sub(".json".len()).and_then(|at| file.split_at_checked(at));
    match stem {
        Some((sku, end)) if end.eq_ignore_ascii_case(".json") && is_code(folder) => {
            Entry::Family { code: folder, sku, url, hash }
        }
        Some(_) | None => lost,
    }
}

fn checked(hash: &str) -> Result<&str, &'static str> {
    match hash {
        "" => Err("no hash"),
        _ if hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(hash),
        _ => Err("a hash that is not 40 hexadecimal digits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789ABCDEF0123456789ABCDEF01234567";

    /// The lines of `text` when it comes in pieces of `size` bytes.
    fn lines(text: &[u8], size: usize) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for piece in text.chunks(size) {
            lines.push(piece, |line| told.push(line.to_vec()));
        }
        (told, lines.rest())
    }

    #[test]
    fn lines_are_the_same_however_the_pieces_fall() {
        let text = "\u{feff}one\r\n\r\ntwo ü\nthree".as_bytes();
        for size in 1..=text.len() {
            let (told, rest) = lines(text, size);
            assert_eq!(told, ["\u{feff}one\r".as_bytes(), b"\r", "two ü".as_bytes()], "{size}");
            assert_eq!(rest, b"three");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_a_line_may() {
        let mut long = vec![b'x'; 100_000];
        long.extend_from_slice(b"\nshort\n");
        for size in [1_000, 200_000] {
            let (told, rest) = lines(&long, size);
            assert_eq!(told.iter().map(Vec::len).collect::<Vec<_>>(), [LINE_MAX, 5]);
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn every_form_of_a_line_is_known() {
        let family = |line: &str| format!("https://h.example/Live/guid/A23/{line}");
        let of = |line: &str, wanted: (&str, &str, Result<&str, &'static str>)| {
            let Entry::Family { code, sku, hash, url } = entry(line.as_bytes()) else { panic!("{line}") };
            assert_eq!((code, sku, hash), wanted, "{line}");
            assert!(line.contains(url) && !url.contains('|'), "{url}");
        };
        of(&family(&format!("A23-100804.json|{HASH}")), ("A23", "A23-100804", Ok(HASH)));
        of(&family(&format!("A23-1_b.c.JSON?v=2 | {HASH}\r")), ("A23", "A23-1_b.c", Ok(HASH)));
        of(&format!("\u{feff}{}", family(&format!("A23-1.json|{HASH}"))), ("A23", "A23-1", Ok(HASH)));
        of(&family("A23-1.json"), ("A23", "A23-1", Err("no hash")));
        of(&family("A23-1.json|"), ("A23", "A23-1", Err("no hash")));
        let short = Err("a hash that is not 40 hexadecimal digits");
        of(&family("A23-1.json|0123"), ("A23", "A23-1", short));
        of(&family(&format!("A23-1.json|{}X", &HASH[1..])), ("A23", "A23-1", short));

        for line in ["https://h/Import/CAT.csv", "https://h/cat.CSV|0123", "https://h/g/CAT.csv?x"] {
            assert!(matches!(entry(line.as_bytes()), Entry::Categories(url) if !url.contains('|')), "{line}");
        }
        for line in ["", "\r", "  ", "\u{feff}"] {
            assert_eq!(entry(line.as_bytes()), Entry::Blank);
        }
        for line in [format!("https://h/Import/INFO.txt|{HASH}"), format!("https://h/X/B1/x.json|{HASH}")] {
            assert_eq!(entry(line.as_bytes()), Entry::Other, "{line}");
        }
        for line in ["https://h/Live/guid/A2", "https", "<html>", "A23-1.json|0123", "https://h/A23/ü.js"] {
            assert_eq!(entry(line.as_bytes()), Entry::Unreadable, "{line}");
        }
        assert_eq!(entry(b"\xff\xfe"), Entry::Unreadable);
    }
}
