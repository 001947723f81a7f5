//! What a text must be so that both databases hold it.
//!
//! SQLite takes any; PostgreSQL refuses the statement, and with it every other row of the page, for
//!
//! | what | where | becomes |
//! | --- | --- | --- |
//! | U+0000 | text, strings of JSON | nothing: it means nothing to a reader |
//! | half of a surrogate pair (`\ud83d` alone) | strings of JSON | U+FFFD, as UTF-8 decoders do |
//! | a number beyond `numeric`, such as `1e400000` | JSON | a string of its digits |
//! | nesting thousands deep | JSON | a string of the whole text |
//!
//! [`crate::store::batch::Rows::push`] cleans every cell before it hashes it, so that the two dialects hold the same.
//! What is compared with cells that were pushed, such as the keys a snapshot has seen, is cleaned the same way.
//!
//! What it does not do: check that a JSON text is one.

use std::borrow::Cow;

/// A number becomes a string with an exponent of so many digits, or when it is longer than so many. `numeric` ends at
/// 131,072 digits before the point and 16,383 after it.
const EXPONENT_DIGITS: usize = 4;
const NUMBER_MAX: usize = 4_000;

/// PostgreSQL's default stack holds some thousands.
const NESTING_MAX: usize = 500;

/// A text without U+0000.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "")) } else { Cow::Borrowed(text) }
}

/// Makes a text one that both databases hold; nearly always it is already.
pub fn clean_text(text: &mut String) {
    if text.contains('\0') {
        text.retain(|c| c != '\0');
    }
}

/// Makes a JSON text one that both databases hold; nearly always it is already.
pub fn clean_json(json: &mut String) {
    let bytes = json.as_bytes();
    let suspicious = ["\0", "\\u0000", "\\ud", "\\uD"].iter().any(|escape| json.contains(escape))
        || has_long_exponent(bytes)
        || has_long_number(bytes)
        || bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > NESTING_MAX;
    if suspicious {
        *json = cleaned(json);
    }
}

/// Whether there may be a number with a long exponent. Strings are not told apart: whoever asks looks again.
fn has_long_exponent(json: &[u8]) -> bool {
    // Every run of so many digits covers one of these places, and begins behind the place before its first.
    let places = (EXPONENT_DIGITS - 1..json.len()).step_by(EXPONENT_DIGITS);
    places.filter(|place| json[*place].is_ascii_digit()).any(|place| {
        let start = place.saturating_sub(EXPONENT_DIGITS);
        let Some(before) = json[start..place].iter().rposition(|byte| !byte.is_ascii_digit()) else { return false };
        let before = start + before;
        let sign = matches!(json[before], b'+' | b'-');
        let exponent = if sign { before.checked_sub(1).map(|at| json[at]) } else { Some(json[before]) };
        let digits = json[before + 1..].iter().take(EXPONENT_DIGITS);
        matches!(exponent, Some(b'e' | b'E')) && digits.filter(|byte| byte.is_ascii_digit()).count() == EXPONENT_DIGITS
    })
}

/// Whether there may be a number longer than [`NUMBER_MAX`], which covers a half of that somewhere.
fn has_long_number(json: &[u8]) -> bool {
    let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    json.len() > NUMBER_MAX && json.chunks_exact(NUMBER_MAX / 2).any(|half| half.iter().all(in_number))
}

fn cleaned(json: &str) -> String {
    let mut clean = String::with_capacity(json.len());
    let mut rest = json;
    let (mut nesting, mut deepest) = (0_usize, 0);
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '"' => {
                let length = string_length(rest);
                clean_string(&rest[..length], &mut clean);
                length
            }
            '-' | '0'..='9' => {
                let length = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
                let length = length.unwrap_or(rest.len());
                put_number(&rest[..length], &mut clean);
                length
            }
            other => {
                match other {
                    '[' | '{' => nesting += 1,
                    ']' | '}' => nesting = nesting.saturating_sub(1),
                    _ => {}
                }
                deepest = deepest.max(nesting);
                if other != '\0' {
                    clean.push(other);
                }
                other.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    if deepest > NESTING_MAX {
        clean = serde_json::Value::String(clean).to_string();
    }
    clean
}

fn put_number(number: &str, clean: &mut String) {
    let exponent = number.split_once(['e', 'E']).map_or("", |(_, exponent)| exponent.trim_start_matches(['+', '-']));
    if exponent.len() >= EXPONENT_DIGITS || number.len() > NUMBER_MAX {
        clean.extend(["\"", number, "\""]);
    } else {
        clean.push_str(number);
    }
}

/// Bytes of the string that `rest` begins with, both quotes included.
fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn clean_string(string: &str, clean: &mut String) {
    let mut rest = string;
    while let Some(at) = rest.find(['\\', '\0']) {
        clean.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = match escape(rest) {
            Some(0) => 6,
            // Both halves of a pair, in their order, are one character.
            Some(0xd800..=0xdbff) if matches!(rest.get(6..).and_then(escape), Some(0xdc00..=0xdfff)) => {
                clean.push_str(&rest[..12]);
                12
            }
            Some(0xd800..=0xdfff) => {
                clean.push('\u{fffd}');
                6
            }
            Some(_) => {
                clean.push_str(&rest[..6]);
                6
            }
            None if rest.starts_with('\0') => 1,
            // A backslash and what it escapes.
            None => {
                let length = rest.chars().take(2).map(char::len_utf8).sum();
                clean.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[length..];
    }
    clean.push_str(rest);
}

/// The code unit, if `rest` begins with `\u` and four hexadecimal digits.
fn escape(rest: &str) -> Option<u16> {
    u16::from_str_radix(rest.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        let mut text = text.to_owned();
        clean_json(&mut text);
        text
    }

    #[test]
    fn what_both_databases_hold_is_left_to_the_letter() {
        let long = format!(r#"{{"text":"{}","n":[1.5e3,-2E-10,{}]}}"#, "x\\n\\u00e9".repeat(2000), "7".repeat(300));
        for plain in [
            r#"{ "name":"a",  "price":1.0e0, "é":"\u00e9" }"#,
            r#"{"escaped":"\\u0000","not a number":"1e99999","hash":"e12345"}"#,
            r#"{"pair":"\ud83d\ude00","upper":"\uD83D\uDE00"}"#,
            "e1234",
            "",
            &long,
        ] {
            assert_eq!(json(plain), plain);
        }
    }

    #[test]
    fn what_one_of_them_refuses_is_mended() {
        for (bad, good) in [
            (r#"{"a\u0000b":"c\u0000"}"#, r#"{"ab":"c"}"#),
            (r#"["\\\u0000\\u0000"]"#, r#"["\\\\u0000"]"#),
            (
                r#"["\ud83d","\ude00\ud83d","\uD83Dx","\ud83d\n"]"#,
                "[\"\u{fffd}\",\"\u{fffd}\u{fffd}\",\"\u{fffd}x\",\"\u{fffd}\\n\"]",
            ),
            (r#"[1e400000,-2.5E-20000,1E+0012345,12]"#, r#"["1e400000","-2.5E-20000","1E+0012345",12]"#),
        ] {
            assert_eq!(json(bad), good);
            assert!(serde_json::from_str::<serde_json::Value>(good).is_ok(), "{good}");
        }
        assert_eq!(json(&"9".repeat(5000)), format!("\"{}\"", "9".repeat(5000)));
        let deep = "[".repeat(2000) + &"]".repeat(2000);
        assert_eq!(json(&deep), format!("\"{deep}\""));
    }

    #[test]
    fn a_text_loses_its_nulls_alone() {
        for (given, wanted) in [("a\0b\0", "ab"), ("\0", ""), ("a\\u0000", "a\\u0000")] {
            let mut text = given.to_owned();
            clean_text(&mut text);
            assert_eq!((&*text, &*clean(given)), (wanted, wanted));
        }
    }
}
