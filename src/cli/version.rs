//! `longshore version`.

use serde_json::json;

use crate::cli::exit::Failure;
use crate::cli::output::Output;

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn execute(output: Output) -> Result<(), Failure> {
    output.show(&json!({ "name": "longshore", "version": VERSION }), || format!("longshore {VERSION}\n"))
}
