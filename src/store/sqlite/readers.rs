//! Connections that only read, apart from the writer, for what people and reports ask.
//!
//! A read runs on tokio's blocking threads, never on an async one. There are few connections, so a burst of questions
//! waits in order instead of taking memory and the machine.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_actors::ledger::LedgerError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::sqlite::open;
use crate::store::sqlite::tx::{OpError, OpResult};

/// Questions answered at once.
const CONNECTIONS: usize = 2;

#[derive(Debug)]
pub struct Readers {
    path: PathBuf,
    places: Arc<Semaphore>,
    /// Opened when first needed, and again after one was lost with a panic.
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), places: Arc::new(Semaphore::new(CONNECTIONS)), idle: Arc::default() }
    }

    pub async fn read<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        F: FnOnce(&Connection) -> OpResult<T> + Send + 'static,
        T: Send + 'static,
    {
        let closed = || LedgerError::Unavailable("the store is closed".into());
        let place = self.places.clone().acquire_owned().await.map_err(|_| closed())?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let answer = tokio::task::spawn_blocking(move || {
            // Goes back when the work ends, however it ends and whether or not the caller still waits.
            let _place = place;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let conn = match kept {
                Some(conn) => conn,
                None => open::reader(&path)?,
            };
            let answer = work(&conn);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            answer
        });
        match answer.await {
            Ok(answer) => answer.map_err(|error: OpError| error.into()),
            Err(error) => Err(LedgerError::Broken(format!("a read did not end: {error}"))),
        }
    }

    /// Waits for the reads under way and closes the connections. Later reads are `Unavailable`.
    pub async fn close(&self) {
        // An error means that somebody closed it before.
        if let Ok(all) = self.places.clone().acquire_many_owned(CONNECTIONS as u32).await {
            self.places.close();
            drop(all);
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
