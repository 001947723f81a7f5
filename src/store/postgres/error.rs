//! What an error of the database means.
//!
//! A connection that broke, a server that stops or has no room: `Unavailable`, which burns no attempt. Two
//! transactions in each other's way: tried again here. Everything else is a bug or a damaged store. Texts hold the
//! server's message and code, never a value.

use longshore_actors::ledger::LedgerError;
use tokio_postgres::error::{Severity, SqlState};

/// Why an operation did not come to its end.
#[derive(Debug)]
pub enum OpError {
    /// It is refused for a reason of the ledger's own.
    Refused(LedgerError),
    Database(tokio_postgres::Error),
}

pub type OpResult<T> = Result<T, OpError>;

impl From<LedgerError> for OpError {
    fn from(error: LedgerError) -> Self {
        OpError::Refused(error)
    }
}

impl From<tokio_postgres::Error> for OpError {
    fn from(error: tokio_postgres::Error) -> Self {
        OpError::Database(error)
    }
}

impl From<OpError> for LedgerError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Refused(error) => error,
            OpError::Database(error) if is_outage(&error) => LedgerError::Unavailable(describe(&error)),
            OpError::Database(error) => LedgerError::Broken(describe(&error)),
        }
    }
}

impl OpError {
    /// Two transactions were in each other's way: the same work, done again, can succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(self.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE))
    }

    /// A row with this key is there already.
    pub fn is_unique_violation(&self) -> bool {
        self.code() == Some(&SqlState::UNIQUE_VIOLATION)
    }

    fn code(&self) -> Option<&SqlState> {
        let OpError::Database(error) = self else { return None };
        error.code()
    }
}

/// Whether the same work can succeed later, without anybody changing a line.
pub fn is_outage(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        // No answer of the server's: the connection broke, or was never made; or the driver has found fault with a
        // value before there was one.
        return !is_about_a_value(error);
    };
    // Connection exceptions, lack of resources (disk, memory, connections), the operator's intervention, system errors;
    // and a server that has become a replica.
    let ends_the_session = error
        .as_db_error()
        .is_some_and(|said| matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic)));
    ends_the_session
        || ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.code().starts_with(class))
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
}

/// Whether the driver could not bring a value into its form on the wire, or read one, or found too few or too many. It
/// tells its errors apart by their texts alone, which a test holds.
fn is_about_a_value(error: &tokio_postgres::Error) -> bool {
    let said = error.to_string();
    let of_a_value = [
        "error serializing parameter",
        "error deserializing column",
        "error encoding message",
        "invalid column",
        "query returned an unexpected number of",
    ];
    of_a_value.iter().any(|begin| said.starts_with(begin))
        || (said.starts_with("expected ") && said.contains("but got"))
}

/// The server's message with its code, or what broke.
pub fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", said.message(), said.code().code());
    }
    let mut last: &dyn std::error::Error = error;
    let mut text = last.to_string();
    while let Some(source) = last.source() {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        last = source;
    }
    text
}
