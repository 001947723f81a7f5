//! How a command ends: an exit code, and at most one line of why.

use std::fmt;
use std::io;
use std::process::ExitCode;

use longshore_actors::ledger::LedgerError;

use crate::config::ConfigErrors;
use crate::http::BindError;
use crate::service::StartError;

/// The exit codes, which scripts rely on. They stand in `--help`, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// The work was tried and failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Something this needs is not there: the store, an upstream, the running service, the port.
    Unavailable,
    /// A bug.
    Internal,
    /// Interrupted, or the drain's deadline passed; what was not finished was given back to the ledger.
    Interrupted,
    /// The configuration is wrong.
    Config,
}

pub const HELP: &str = "\
Exit codes:
   0  done
   1  the work was tried and failed
   2  the command line is wrong
  69  something this needs is unavailable (store, upstream, service, port)
  70  internal error
  75  interrupted, or the time to drain passed; unfinished work was given back
  78  the configuration is wrong";

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::Interrupted => 75,
            Exit::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// A command that did not end well. The text says what, where and what to do; it is empty when all has been said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub text: String,
}

impl Failure {
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// The command has told all about it already.
    pub fn silent(exit: Exit) -> Self {
        Self { exit, text: String::new() }
    }

    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(Exit::Failed, text)
    }

    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, text)
    }

    pub fn internal(text: impl Into<String>) -> Self {
        Self::new(Exit::Internal, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(Exit::Config, errors.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Store(_)
            | StartError::Postgres(_)
            | StartError::Database(_)
            | StartError::Join(_)
            | StartError::Scratch(_)
            | StartError::Pending { .. }
            | StartError::Bind(BindError::InUse(_) | BindError::Io(..)) => Exit::Unavailable,
            StartError::Upstream(_) | StartError::Schedule { .. } => Exit::Config,
            StartError::Objects(_) | StartError::Bind(BindError::Open(_) | BindError::EmptyToken) => Exit::Config,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let exit = match &error {
            LedgerError::Stale(_) | LedgerError::Missing(_) | LedgerError::Refused(_) | LedgerError::Guard(_) => {
                Exit::Failed
            }
            LedgerError::Unavailable(_) => Exit::Unavailable,
            LedgerError::Broken(_) => Exit::Internal,
        };
        Self::new(exit, error.to_string())
    }
}

/// Of writing to stdout. A reader that went away (`| head`) has what it wanted: that ends quietly.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Ok),
            _ => Self::failed(format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
        let all =
            [Exit::Ok, Exit::Failed, Exit::Usage, Exit::Unavailable, Exit::Internal, Exit::Interrupted, Exit::Config];
        for exit in all {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&format!("{}  ", exit.code()))));
        }
        assert_eq!(HELP.lines().count(), all.len() + 1);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.text.as_str()), (Exit::Ok, ""));
    }
}
