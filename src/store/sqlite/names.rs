//! Shared copies of the few words that every row repeats: domains and kinds.

use std::collections::HashSet;

use longshore_actors::job::{Name, State};
use rusqlite::Row;
use rusqlite::types::{FromSqlError, Type};

/// Beyond this many different words the set starts anew: words come from rows, and rows can hold anything.
const WORDS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Names {
    words: HashSet<Name>,
}

impl Names {
    pub fn get(&mut self, word: &str) -> Name {
        if let Some(name) = self.words.get(word) {
            return name.clone();
        }
        if self.words.len() >= WORDS_MAX {
            self.words.clear();
        }
        let name = Name::from(word);
        self.words.insert(name.clone());
        name
    }

    /// The text in a column of a row.
    pub fn text(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Name> {
        let text = row.get_ref(column)?.as_str()?;
        Ok(self.get(text))
    }
}

/// The state in a column of a row.
pub fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    State::parse(row.get_ref(column)?.as_str()?).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(FromSqlError::InvalidType))
    })
}
