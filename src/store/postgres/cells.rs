//! Cells in PostgreSQL's binary form: one by one, as the array of a column, and read back.
//!
//! ```text
//! Text text · Int bigint · Bool boolean · Decimal numeric · Json jsonb · Time timestamptz
//! ```
//!
//! Written by hand into one buffer, for `COPY` and for arrays alike: a boxed parameter a cell would cost more than the
//! cell. An instant that PostgreSQL has no date for is written as the nearest one that it has.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use longshore_actors::clock::Timestamp;
use rust_decimal::Decimal;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::store::batch::{Cell, Row};
use crate::store::table::ColumnKind;

/// 2000-01-01T00:00:00Z, from which PostgreSQL counts microseconds, in unix milliseconds.
const EPOCH_MS: i64 = 946_684_800_000;
/// 4714-11-24 BC, the first day there is to PostgreSQL, in its microseconds.
const TIME_MIN: i64 = -211_813_488_000_000_000;
/// 9999-12-30, the last instant that the embedded store has; PostgreSQL's own would have no text of four digits.
const TIME_MAX: i64 = 252_455_522_400_999_000;
/// The first byte of every `jsonb` on the wire.
const JSONB_VERSION: u8 = 1;
const NULL: i32 = -1;

/// The type of a column of this kind.
pub fn kind(kind: ColumnKind) -> Type {
    match kind {
        ColumnKind::Text => Type::TEXT,
        ColumnKind::Int => Type::INT8,
        ColumnKind::Bool => Type::BOOL,
        ColumnKind::Decimal => Type::NUMERIC,
        ColumnKind::Json => Type::JSONB,
        ColumnKind::Time => Type::TIMESTAMPTZ,
    }
}

/// The type of an array of such values.
pub fn array(kind: ColumnKind) -> Type {
    match kind {
        ColumnKind::Text => Type::TEXT_ARRAY,
        ColumnKind::Int => Type::INT8_ARRAY,
        ColumnKind::Bool => Type::BOOL_ARRAY,
        ColumnKind::Decimal => Type::NUMERIC_ARRAY,
        ColumnKind::Json => Type::JSONB_ARRAY,
        ColumnKind::Time => Type::TIMESTAMPTZ_ARRAY,
    }
}

/// Appends a cell with its length before it, as `COPY` and arrays want it.
pub fn put(cell: &Cell, out: &mut BytesMut) {
    match cell {
        Cell::Null => out.put_i32(NULL),
        Cell::Text(text) => {
            put_length(text.len(), out);
            out.put_slice(text.as_bytes());
        }
        Cell::Json(text) => {
            put_length(text.len() + 1, out);
            out.put_u8(JSONB_VERSION);
            out.put_slice(text.as_bytes());
        }
        Cell::Int(value) => {
            out.put_i32(8);
            out.put_i64(*value);
        }
        Cell::Bool(value) => {
            out.put_i32(1);
            out.put_u8(u8::from(*value));
        }
        Cell::Decimal(value) => {
            let start = out.len();
            out.put_i32(0);
            value.to_sql(&Type::NUMERIC, out).expect("every decimal is a numeric");
            let length = (out.len() - start - 4) as i32;
            out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
        Cell::Time(at) => put_time(*at, out),
    }
}

pub fn put_time(at: Timestamp, out: &mut BytesMut) {
    out.put_i32(8);
    out.put_i64(micros(at));
}

pub fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_length(bytes.len(), out);
    out.put_slice(bytes);
}

fn put_length(length: usize, out: &mut BytesMut) {
    out.put_i32(i32::try_from(length).expect("an answer's size has a cap far below 2 GiB"));
}

fn micros(at: Timestamp) -> i64 {
    at.0.saturating_sub(EPOCH_MS).saturating_mul(1000).clamp(TIME_MIN, TIME_MAX)
}

fn time(micros: i64) -> Timestamp {
    Timestamp(micros.div_euclid(1000).saturating_add(EPOCH_MS))
}

/// One column of many rows, as a parameter for `unnest`.
#[derive(Debug)]
pub struct Column<'a> {
    kind: ColumnKind,
    cells: Vec<&'a Cell>,
}

impl<'a> Column<'a> {
    pub fn new(kind: ColumnKind, cells: impl Iterator<Item = &'a Cell>) -> Self {
        Self { kind, cells: cells.collect() }
    }

    /// Its type as an array.
    pub fn array(&self) -> Type {
        array(self.kind)
    }
}

impl ToSql for Column<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        put_array(kind(self.kind), self.cells.len(), out);
        for cell in &self.cells {
            put(cell, out);
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The hashes of many rows, as a parameter for `unnest`.
#[derive(Debug)]
pub struct Hashes<'a>(Vec<&'a [u8; 16]>);

impl<'a> Hashes<'a> {
    pub fn of(rows: &[&'a Row]) -> Self {
        Self(rows.iter().map(|row| &row.hash).collect())
    }
}

impl ToSql for Hashes<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        put_array(Type::BYTEA, self.0.len(), out);
        for hash in &self.0 {
            put_bytes(hash.as_slice(), out);
        }
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::BYTEA_ARRAY
    }

    to_sql_checked!();
}

/// What stands before the elements of an array.
fn put_array(element: Type, length: usize, out: &mut BytesMut) {
    // One dimension, or none when it is empty; whether there are nulls the server sees for itself.
    out.put_i32(i32::from(length > 0));
    out.put_i32(0);
    out.put_u32(element.oid());
    if length > 0 {
        put_length(length, out);
        out.put_i32(1);
    }
}

/// An instant as a parameter.
#[derive(Debug)]
pub struct Instant(pub Timestamp);

impl ToSql for Instant {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(micros(self.0));
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl ToSql for Cell {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Cell::Null => return Ok(IsNull::Yes),
            Cell::Text(text) => out.put_slice(text.as_bytes()),
            Cell::Json(text) => {
                out.put_u8(JSONB_VERSION);
                out.put_slice(text.as_bytes());
            }
            Cell::Int(value) => out.put_i64(*value),
            Cell::Bool(value) => out.put_u8(u8::from(*value)),
            Cell::Decimal(value) => return value.to_sql(kind, out),
            Cell::Time(at) => out.put_i64(micros(*at)),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// By the type of the column that it is read from. JSON comes back as `jsonb` keeps it: equal, not to the letter.
impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *kind {
            Type::TEXT => Cell::Text(String::from_sql(kind, raw)?),
            Type::INT8 => Cell::Int(i64::from_sql(kind, raw)?),
            Type::BOOL => Cell::Bool(bool::from_sql(kind, raw)?),
            Type::NUMERIC => Cell::Decimal(Decimal::from_sql(kind, raw)?),
            Type::TIMESTAMPTZ => Cell::Time(time(i64::from_sql(&Type::INT8, raw)?)),
            _ => match raw.split_first() {
                Some((&JSONB_VERSION, text)) => Cell::Json(std::str::from_utf8(text)?.to_owned()),
                _ => return Err("a jsonb of an unknown version".into()),
            },
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Cell::Null)
    }

    fn accepts(kind: &Type) -> bool {
        [Type::TEXT, Type::INT8, Type::BOOL, Type::NUMERIC, Type::JSONB, Type::TIMESTAMPTZ].contains(kind)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn written(cell: &Cell) -> Vec<u8> {
        let mut out = BytesMut::new();
        put(cell, &mut out);
        out.to_vec()
    }

    fn back(cell: &Cell, of: ColumnKind) -> Cell {
        Cell::from_sql(&kind(of), &written(cell)[4..]).unwrap()
    }

    #[test]
    fn every_kind_comes_back_as_it_was_written() {
        let cells = [
            (Cell::Text("é \u{1f600}".into()), ColumnKind::Text),
            (Cell::Int(i64::MIN), ColumnKind::Int),
            (Cell::Bool(true), ColumnKind::Bool),
            (Cell::Json(r#"{"a":[1]}"#.into()), ColumnKind::Json),
            (Cell::Time(Timestamp(1_700_000_000_123)), ColumnKind::Time),
            (Cell::Time(Timestamp(-1)), ColumnKind::Time),
        ];
        for (cell, of) in cells {
            assert_eq!(back(&cell, of), cell);
            let length = written(&cell).len() - 4;
            assert_eq!(written(&cell)[..4], (length as i32).to_be_bytes());
        }
        for number in ["0", "1.50", "-0.00001", "79228162514264337593543950335", "0.0000000000000000000000000001"] {
            let cell = Cell::Decimal(number.parse().unwrap());
            assert_eq!(back(&cell, ColumnKind::Decimal), cell, "{number}");
        }
        assert_eq!(written(&Cell::Null), NULL.to_be_bytes());
    }

    #[test]
    fn an_instant_beyond_all_dates_is_the_nearest_one() {
        for (beyond, nearest) in [(i64::MAX, TIME_MAX), (i64::MIN, TIME_MIN)] {
            assert_eq!(micros(Timestamp(beyond)), nearest);
        }
        let last = jiff::Timestamp::MAX.as_millisecond();
        assert_eq!(time(micros(Timestamp(last))), Timestamp(last));
    }
}
