//! The lock that makes one process the owner of a database file.
//!
//! Boot recovery rests on it: whoever holds it knows that every lease in the ledger belongs to a process that is gone.
//! It is the operating system's lock on a file beside the database, so it ends with the process however that dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::store::sqlite::open::OpenError;

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the database at `path`, or says who has it. Makes the file if there is none.
    pub fn take(path: &Path) -> Result<Lock, OpenError> {
        let beside = lock_path(&real(path)?);
        let unwritable = |source| OpenError::Unwritable { path: beside.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Who it is is a courtesy; without it the message is still right.
                let _ = file.read_to_string(&mut pid);
                return Err(OpenError::Locked { path: path.to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        file.set_len(0).map_err(unwritable)?;
        file.rewind().map_err(unwritable)?;
        writeln!(file, "{}", std::process::id()).map_err(unwritable)?;
        Ok(Lock { _file: file })
    }
}

/// The file itself: whoever comes by a symbolic link must meet the same lock.
fn real(path: &Path) -> Result<PathBuf, OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
    // A link may lead to a file that is not there yet. An empty file is an empty database.
    OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(unwritable)?;
    path.canonicalize().map_err(unwritable)
}

/// The process that wrote itself into the lock of the file at `path` last; it may have ended since.
pub fn owner(path: &Path) -> Option<u32> {
    std::fs::read_to_string(lock_path(&path.canonicalize().ok()?)).ok()?.trim().parse().ok()
}

/// `data.db` is locked by `data.db.lock`. The file stays when the lock ends: to delete it would race with the next.
fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
