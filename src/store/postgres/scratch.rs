//! For measuring: a database of one's own on the configured server, what COPY does with the same rows, and how much was
//! written to the log.
//!
//! Names are the program's own and need no quoting.

use std::time::Instant;

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::types::Type;

use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;

pub async fn create(session: &Session, name: &str) -> OpResult<()> {
    session.client().batch_execute(&format!("CREATE DATABASE {name}")).await?;
    Ok(())
}

/// Nothing is done where there is none.
pub async fn remove(session: &Session, name: &str) -> OpResult<()> {
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    session.query(cut, &[(&name as _, Type::TEXT)]).await?;
    session.client().batch_execute(&format!("DROP DATABASE IF EXISTS {name}")).await?;
    Ok(())
}

/// Rows a second that COPY FROM STDIN brings into empty tables like these, with their keys: all rows of each, one table
/// after the other, on one connection.
pub async fn copy_speed(session: &Session, tables: &[&str]) -> OpResult<f64> {
    let client = session.client();
    let (mut rows, mut seconds) = (0, 0.0);
    for table in tables {
        let out = client.copy_out(&format!("COPY {table} TO STDOUT (FORMAT binary)")).await?;
        let chunks: Vec<Bytes> = out.try_collect().await?;
        client.batch_execute(&format!("CREATE TABLE {table}_copied (LIKE {table} INCLUDING ALL)")).await?;
        let begun = Instant::now();
        let sink = client.copy_in(&format!("COPY {table}_copied FROM STDIN (FORMAT binary)")).await?;
        let mut sink = Box::pin(sink);
        for chunk in chunks {
            sink.feed(chunk).await?;
        }
        rows += sink.as_mut().finish().await?;
        seconds += begun.elapsed().as_secs_f64();
        client.batch_execute(&format!("DROP TABLE {table}_copied")).await?;
    }
    Ok(rows as f64 / seconds.max(1e-6))
}

/// Bytes written to the server's log so far.
pub async fn logged(session: &Session) -> OpResult<i64> {
    let row = session.query_opt("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint", &[]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}

/// Rows of these tables together.
pub async fn count(session: &Session, tables: &[&str]) -> OpResult<u64> {
    let mut rows = 0;
    for table in tables {
        let row = session.query_opt(&format!("SELECT count(*) FROM {table}"), &[]).await?;
        rows += row.map_or(0, |row| row.get::<_, i64>(0));
    }
    Ok(u64::try_from(rows).unwrap_or(0))
}
