//! A step of a price ladder: exact, in a currency with an ISO code, or on request.

use rust_decimal::Decimal;
use serde_json::value::RawValue;

use crate::domains::products::document::{Tier, read};
use crate::domains::products::values::{decimal, flag, int, quoted, text};

/// One step of a ladder.
pub struct Price {
    pub quantity: i64,
    /// `None`: on request.
    pub price: Option<Decimal>,
    pub currency: String,
    pub on_request: bool,
}

pub fn tier(raw: &RawValue) -> Result<Price, String> {
    let tier: Tier<'_> = read(raw)?;
    let quantity = int(tier.quantity)?.unwrap_or(1);
    let on_request = flag(tier.on_request)?.unwrap_or(false);
    let price = decimal(tier.price)?.filter(|price| !(on_request && price.is_zero()));
    let currency = currency(&text(tier.valuta)?.ok_or("no currency")?)?;
    match price {
        _ if quantity < 0 => Err(format!("the quantity is {quantity}")),
        Some(price) if price.is_sign_negative() && !price.is_zero() => Err(format!("the price is negative: {price}")),
        None if !on_request => Err("no price".to_owned()),
        price => Ok(Price { quantity, price, currency, on_request }),
    }
}

/// ISO 4217 for what the feed writes.
fn currency(name: &str) -> Result<String, String> {
    let name = name.trim().to_uppercase();
    let code = match name.as_str() {
        "EURO" | "EUROS" | "€" => "EUR",
        "POUND" | "POUNDS" | "£" => "GBP",
        "DOLLAR" | "DOLLARS" | "$" => "USD",
        "FRANKEN" | "FRANC" => "CHF",
        code if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => code,
        _ => return Err(format!("{} is no currency", quoted(&name))),
    };
    Ok(code.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(json: &str) -> Result<(i64, Option<String>, String, bool), String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        tier(&raw)
            .map(|price| (price.quantity, price.price.map(|price| price.to_string()), price.currency, price.on_request))
    }

    #[test]
    fn a_step_is_exact_or_refused() {
        let ok = |quantity, price: Option<&str>, currency: &str, on_request| {
            Ok((quantity, price.map(str::to_owned), currency.to_owned(), on_request))
        };
        for (json, wanted) in [
            (r#"{"Price":8.270,"Quantity":250,"Valuta":"EURO"}"#, ok(250, Some("8.27"), "EUR", false)),
            (r#"{"Price":"1.234,5","Quantity":"1","Valuta":"gbp"}"#, ok(1, Some("1234.5"), "GBP", false)),
            (r#"{"Price":0,"Quantity":1,"OnRequest":"True","Valuta":"€"}"#, ok(1, None, "EUR", true)),
            (r#"{"Price":0,"Quantity":1,"Valuta":"EURO"}"#, ok(1, Some("0"), "EUR", false)),
            (r#"{"Price":2,"Valuta":"EURO"}"#, ok(1, Some("2"), "EUR", false)),
        ] {
            assert_eq!(of(json), wanted, "{json}");
        }
        for (json, says) in [
            (r#"{"Price":-1,"Valuta":"EURO"}"#, "negative"),
            (r#"{"Price":1,"Quantity":-5,"Valuta":"EURO"}"#, "the quantity is -5"),
            (r#"{"Price":1}"#, "no currency"),
            (r#"{"Valuta":"EURO"}"#, "no price"),
            (r#"{"Price":"much","Valuta":"EURO"}"#, "is no number"),
            (r#"{"Price":1,"Valuta":"Taler"}"#, "is no currency"),
            ("7", "expected a price"),
        ] {
            assert!(of(json).unwrap_err().contains(says), "{json}: {:?}", of(json));
        }
    }
}
