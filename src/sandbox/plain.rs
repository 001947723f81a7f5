//! `GET /plain/rows?count=&page=&perPage=`: rows of fifteen plain fields, for measuring. Nothing about it misbehaves.
//!
//! The same numbers give the same rows; with each generation of the sandbox another one in a hundred has another price.

use std::fmt::Write;

use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::state::State;

/// Rows that there may be.
const COUNT_MAX: u64 = 10_000_000;
const PER_PAGE_MAX: u64 = 50_000;
/// What a row takes, and a little more.
const ROW_BYTES: usize = 400;

pub fn routes(config: &mut web::ServiceConfig) {
    config.route("/plain/rows", web::get().to(rows));
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Window {
    count: u64,
    /// Counted from 1.
    page: u64,
    per_page: u64,
}

async fn rows(state: web::Data<State>, window: web::Query<Window>) -> HttpResponse {
    let Window { count, page, per_page } = window.into_inner();
    let (count, per_page) = (count.min(COUNT_MAX), per_page.clamp(1, PER_PAGE_MAX));
    let first = page.saturating_sub(1).saturating_mul(per_page).min(count);
    let generation = state.catalogue().generation;
    let mut body = String::with_capacity((per_page.min(count) as usize + 1) * ROW_BYTES);
    body.push_str(&format!("{{\"total\":{count},\"rows\":["));
    for number in first..(first + per_page).min(count) {
        if number > first {
            body.push(',');
        }
        push(&mut body, number, generation);
    }
    body.push_str("]}");
    HttpResponse::Ok().content_type("application/json").body(body)
}

fn push(body: &mut String, n: u64, generation: u64) {
    // One in a hundred more with each generation after the first.
    let changes = (generation.saturating_sub(1) + 99 - n % 100) / 100;
    let cents = 100 + n * 7 % 90_000 + changes;
    let written = write!(
        body,
        "{{\"id\":\"item-{n:08}\",\"name\":\"Item number {n}\",\"description\":\"A plain row, made for measuring, {n}\",\
         \"sku\":\"SKU-{:06}\",\"price\":{}.{:02},\"cost\":{}.5,\"quantity\":{},\"weight\":{},\"active\":{},\
         \"category\":\"category-{}\",\"brand\":\"brand-{}\",\"country\":\"{}\",\"ean\":\"{:013}\",\
         \"url\":\"https://example.org/items/{n}\",\"updated\":\"2026-01-{:02}\"}}",
        n * 31 % 1_000_000,
        cents / 100,
        cents % 100,
        n % 500,
        n % 1_000,
        n * 13 % 5_000,
        n.is_multiple_of(2),
        n % 40,
        n % 90,
        ["DE", "NL", "FR", "IT"][(n % 4) as usize],
        n * 97,
        n % 28 + 1,
    );
    debug_assert!(written.is_ok(), "a string takes all that is written");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn one_in_a_hundred_changes_with_each_generation() {
        let row = |n, generation| {
            let mut text = String::new();
            push(&mut text, n, generation);
            serde_json::from_str::<Value>(&text).unwrap_or_default()
        };
        assert_eq!(row(7, 1).as_object().map(|row| row.len()), Some(15));
        for generation in 1..5 {
            let changed = (0..1_000).filter(|n| row(*n, generation) != row(*n, generation + 1)).count();
            assert_eq!(changed, 10, "from generation {generation}");
        }
    }
}
