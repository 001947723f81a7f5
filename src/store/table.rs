//! A domain's table, declared once; both dialects and the test against the migrated schema read this.

/// A table that a domain keeps in step. Beside its columns every table has `content_hash` (16 bytes, of all cells and
/// details), `changed_at` and `removed_at` (ISO 8601 text in SQLite); the store fills those.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    /// How many of the first columns are the primary key.
    pub key: usize,
    pub columns: &'static [Column],
    /// Tables whose rows belong to a row of this one: replaced as a whole when it changes.
    pub details: &'static [Detail],
    /// Its rows only tie rows of other tables together. They are written and removed like others, and left out of
    /// the counts, which so speak of records.
    pub link: bool,
}

/// A table without a life of its own. Its first columns are the key of its owner; no hash, no `removed_at`.
#[derive(Debug, PartialEq, Eq)]
pub struct Detail {
    pub name: &'static str,
    pub key: usize,
    pub columns: &'static [Column],
}

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: ColumnKind,
    pub nullable: bool,
}

impl Column {
    pub const fn new(name: &'static str, kind: ColumnKind) -> Self {
        Self { name, kind, nullable: false }
    }

    pub const fn nullable(name: &'static str, kind: ColumnKind) -> Self {
        Self { name, kind, nullable: true }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Text,
    /// 64 bits, signed.
    Int,
    Bool,
    /// Exact; text in SQLite, numeric in PostgreSQL.
    Decimal,
    /// Text in SQLite, jsonb in PostgreSQL.
    Json,
    /// An instant; ISO 8601 text in SQLite, timestamptz in PostgreSQL.
    Time,
}
