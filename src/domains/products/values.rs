//! Values as Promidata writes them: numbers and texts for the same thing, decimal commas, booleans in quotes.
//!
//! Each reads one JSON value as it stands in the text, so that a decimal is exact. `null`, the empty text and what is
//! absent are all `None`; what is there and does not fit is an error in words.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::value::RawValue;

/// A value that may be absent, as its own text.
pub type Raw<'a> = Option<&'a RawValue>;

/// Characters of a value that an error quotes.
const QUOTED: usize = 40;

/// A text; a number or a boolean in its place is taken as it is written.
pub fn text(raw: Raw<'_>) -> Result<Option<String>, String> {
    let Some(raw) = raw.map(RawValue::get) else { return Ok(None) };
    let text = match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(raw).map_err(|error| error.to_string())?,
        Some(b'{' | b'[') => return Err(format!("{} is no text", quoted(raw))),
        Some(b'n') | None => return Ok(None),
        Some(_) => raw.to_owned(),
    };
    // No database takes a NUL in a text.
    let text = text.replace('\0', "");
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

/// An exact number. In a text, the last of comma and point parts off the fraction: `15,8`, `1.234,50`.
pub fn decimal(raw: Raw<'_>) -> Result<Option<Decimal>, String> {
    let Some(text) = text(raw)? else { return Ok(None) };
    let no_number = || format!("{} is no number", quoted(&text));
    if raw.is_some_and(|raw| raw.get().starts_with('"')) {
        let text = text.trim();
        let digits: String = match (text.rfind(','), text.rfind('.')) {
            (Some(comma), Some(point)) if comma > point => text.replace('.', "").replace(',', "."),
            (Some(_), Some(_)) => text.replace(',', ""),
            (Some(_), None) => text.replace(',', "."),
            (None, _) => text.to_owned(),
        };
        let plain = digits.trim_start_matches('-');
        let fits = plain.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && plain.bytes().any(|byte| byte.is_ascii_digit());
        return if fits { exact(&digits).map(Some).map_err(|_| no_number()) } else { Err(no_number()) };
    }
    exact(&text).map(Some).map_err(|_| no_number())
}

/// A measure: a number above zero. The feed writes 0 for what nobody knows.
pub fn measure(raw: Raw<'_>) -> Result<Option<Decimal>, String> {
    match decimal(raw)? {
        Some(number) if number.is_sign_negative() && !number.is_zero() => Err(format!("{number} is negative")),
        number => Ok(number.filter(|number| !number.is_zero())),
    }
}

/// A whole number.
pub fn int(raw: Raw<'_>) -> Result<Option<i64>, String> {
    let Some(number) = decimal(raw)? else { return Ok(None) };
    let whole = number.normalize();
    let int = if whole.scale() == 0 { i64::try_from(whole.mantissa()).ok() } else { None };
    int.map(Some).ok_or_else(|| format!("{number} is no whole number"))
}

/// `true`, `"True"`, `1`.
pub fn flag(raw: Raw<'_>) -> Result<Option<bool>, String> {
    let Some(text) = text(raw)? else { return Ok(None) };
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(Some(true)),
        "false" | "0" | "no" => Ok(Some(false)),
        _ => Err(format!("{} is neither true nor false", quoted(&text))),
    }
}

/// `01.05.2025` in ISO 8601.
pub fn date(raw: Raw<'_>) -> Result<Option<String>, String> {
    let Some(text) = text(raw)? else { return Ok(None) };
    let text = text.trim();
    let date = jiff::civil::Date::strptime("%d.%m.%Y", text).or_else(|_| text.parse::<jiff::civil::Date>());
    date.map(|date| Some(date.to_string())).map_err(|_| format!("{} is no date", quoted(text)))
}

/// The items of a list; `null` is the empty one.
pub fn list(raw: Raw<'_>) -> Result<Vec<&RawValue>, String> {
    raw.map_or(Ok(Vec::new()), |raw| {
        serde_json::from_str(raw.get()).map_err(|_| format!("{} is no list", quoted(raw.get())))
    })
}

/// The fields of an object whose names are data; `null` is the empty one.
pub fn fields(raw: Raw<'_>) -> Result<BTreeMap<String, Raw<'_>>, String> {
    raw.map_or(Ok(BTreeMap::new()), |raw| {
        serde_json::from_str(raw.get()).map_err(|_| format!("{} is no object", quoted(raw.get())))
    })
}

fn exact(digits: &str) -> rust_decimal::Result<Decimal> {
    let number = match digits.split_once(['e', 'E']) {
        // `from_scientific` rounds a base of too many digits; read exactly first, it is an error.
        Some((base, _)) => Decimal::from_str_exact(base).and_then(|_| Decimal::from_scientific(digits)),
        None => Decimal::from_str_exact(digits),
    };
    number.map(|number| number.normalize())
}

/// The beginning of a value, for a reason.
pub fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of<T>(json: &str, read: impl Fn(Raw<'_>) -> Result<T, String>) -> Result<T, String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let raw: Option<&RawValue> = serde_json::from_str(raw.get()).unwrap();
        read(raw)
    }

    #[test]
    fn numbers_are_exact_in_every_form() {
        for (json, exact) in [
            ("15.8", "15.8"),
            ("\"15.8\"", "15.8"),
            ("\"15,8\"", "15.8"),
            ("\" 1.234,50 \"", "1234.5"),
            ("\"1,234.50\"", "1234.5"),
            ("\"-0,5\"", "-0.5"),
            ("5.949999999999999289457264", "5.949999999999999289457264"),
            ("1e-3", "0.001"),
            ("175", "175"),
            ("0.1", "0.1"),
        ] {
            assert_eq!(of(json, decimal).unwrap().unwrap().to_string(), exact, "{json}");
        }
        for json in ["\"heavy\"", "\"175 g\"", "\",\"", "\"1e3\"", "true", "{}", "[1]", "\"1,2,3\"", "1e99"] {
            assert!(of(json, decimal).is_err(), "{json}");
        }
        for json in ["null", "\"\"", "\"  \""] {
            assert_eq!(of(json, decimal), Ok(None), "{json}");
        }
        assert_eq!((of("0", measure), of("\"0,0\"", measure)), (Ok(None), Ok(None)));
        assert!(of("-1", measure).is_err());
        assert_eq!((of("90", int), of("\"90\"", int), of("90.0", int)), (Ok(Some(90)), Ok(Some(90)), Ok(Some(90))));
        assert!(of("1.5", int).is_err() && of("99999999999999999999", int).is_err());
    }

    #[test]
    fn booleans_and_dates_come_as_texts() {
        for (json, expected) in [
            ("true", Ok(Some(true))),
            ("\"True\"", Ok(Some(true))),
            ("\"false\"", Ok(Some(false))),
            ("0", Ok(Some(false))),
            ("null", Ok(None)),
        ] {
            assert_eq!(of(json, flag), expected, "{json}");
        }
        assert!(of("\"maybe\"", flag).is_err());
        assert_eq!(of("\"01.05.2025\"", date), Ok(Some("2025-05-01".to_owned())));
        assert_eq!(of("\"2025-05-01\"", date), Ok(Some("2025-05-01".to_owned())));
        assert_eq!(of("\"\"", date), Ok(None));
        for json in ["\"31.02.2025\"", "\"soon\"", "\"05/01/2025\""] {
            assert!(of(json, date).is_err(), "{json}");
        }
    }

    #[test]
    fn texts_lists_and_objects_may_be_null() {
        assert_eq!(of("\"a\\u0000b\"", text), Ok(Some("ab".to_owned())));
        assert_eq!(of("7", text), Ok(Some("7".to_owned())));
        assert!(of("{}", text).is_err());
        assert!(of("null", |raw| list(raw).map(|list| list.len())) == Ok(0));
        assert!(of("[1,null]", |raw| list(raw).map(|list| list.len())) == Ok(2));
        assert!(of("{}", |raw| list(raw).map(|list| list.len())).is_err());
        assert!(of("null", |raw| fields(raw).map(|fields| fields.len())) == Ok(0));
        assert!(of("[]", |raw| fields(raw).map(|fields| fields.len())).is_err());
    }
}
