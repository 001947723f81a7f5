//! The processes that share the ledger, each with a heartbeat.
//!
//! ```text
//! join ──▶ row of the node: this process ── every node.heartbeat ──▶ heartbeat_at = now()
//!   └─ the process that had the name before is dead by construction: what it left active waits again at once
//! a node that is silent for node.lapse is dead: upkeep of any other gives its jobs back
//! ```
//!
//! Heartbeats are compared by the database's own clock, so that no two clocks have to agree.

use std::time::Duration;

use longshore_actors::clock::Timestamp;
use tokio_postgres::types::Type;

use crate::store::postgres::error::OpResult;
use crate::store::postgres::session::Session;
use crate::store::{Beat, NodeStatus};

/// Answers the process that had the name before.
const JOIN: &str = "
WITH before AS (SELECT process FROM nodes WHERE name = $1)
INSERT INTO nodes (name, process, version, started_at, heartbeat_at) VALUES ($1, $2, $3, now(), now())
ON CONFLICT (name) DO UPDATE SET process = excluded.process, version = excluded.version,
    started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at
RETURNING (SELECT process FROM before)";

/// The others are counted as they stood before this statement; this one lives by what it writes.
const BEAT: &str = "
WITH beat AS (UPDATE nodes SET heartbeat_at = now() WHERE name = $1 AND process = $2 RETURNING 1)
SELECT (SELECT count(*) FROM beat) = 1,
    (SELECT count(*) FROM nodes WHERE name <> $1 AND heartbeat_at > now() - $3 * interval '1 millisecond')";

const LEAVE: &str = "DELETE FROM nodes WHERE name = $1 AND process = $2";

/// Long enough for whoever looks for the traces of a dead node, and for its last lease to have lapsed.
const FORGET: &str = "DELETE FROM nodes WHERE heartbeat_at < now() - interval '1 day'";

const LIST: &str = "
SELECT name, process, version, started_at, heartbeat_at, heartbeat_at > now() - $1 * interval '1 millisecond'
FROM nodes ORDER BY name";

/// Takes the place of the node `name`; answers the process that had it, if there was one.
pub async fn join(session: &Session, name: &str, process: &str) -> OpResult<Option<String>> {
    session.execute(FORGET, &[]).await?;
    let version = env!("CARGO_PKG_VERSION");
    let params = [(&name as _, Type::TEXT), (&process as _, Type::TEXT), (&version as _, Type::TEXT)];
    let row = session.query_opt(JOIN, &params).await?;
    let before: Option<String> = row.and_then(|row| row.get(0));
    Ok(before.filter(|before| before != process))
}

pub async fn beat(session: &Session, name: &str, process: &str, lapse: Duration) -> OpResult<Beat> {
    let lapse = millis(lapse);
    let params = [(&name as _, Type::TEXT), (&process as _, Type::TEXT), (&lapse as _, Type::FLOAT8)];
    let Some(row) = session.query_opt(BEAT, &params).await? else { return Ok(Beat::Replaced) };
    let (ours, others): (bool, i64) = (row.get(0), row.get(1));
    if ours {
        return Ok(Beat::Alive { nodes: usize::try_from(others).unwrap_or(0) + 1 });
    }
    // Forgotten after a day without a database is not replaced.
    let held = session.query_opt("SELECT 1 FROM nodes WHERE name = $1", &[(&name as _, Type::TEXT)]).await?;
    if held.is_some() {
        return Ok(Beat::Replaced);
    }
    join(session, name, process).await?;
    Ok(Beat::Alive { nodes: usize::try_from(others).unwrap_or(0) + 1 })
}

pub async fn leave(session: &Session, name: &str, process: &str) -> OpResult<()> {
    session.execute(LEAVE, &[(&name as _, Type::TEXT), (&process as _, Type::TEXT)]).await?;
    Ok(())
}

pub async fn list(session: &Session, this: &str, lapse: Duration) -> OpResult<Vec<NodeStatus>> {
    let lapse = millis(lapse);
    let rows = session.query(LIST, &[(&lapse as _, Type::FLOAT8)]).await?;
    let at = |at: jiff::Timestamp| Timestamp(at.as_millisecond());
    let node = |row: &tokio_postgres::Row| {
        let process: String = row.get(1);
        NodeStatus {
            name: row.get(0),
            this: process == this,
            process,
            version: row.get(2),
            started_at: at(row.get(3)),
            heartbeat_at: at(row.get(4)),
            alive: row.get(5),
        }
    };
    Ok(rows.iter().map(node).collect())
}

fn millis(lapse: Duration) -> f64 {
    lapse.as_secs_f64() * 1e3
}
