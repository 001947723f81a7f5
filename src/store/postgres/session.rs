//! One connection, or a transaction on it: where statements are run.
//!
//! ```text
//! pool ──▶ Session ──begin──▶ Tx ──commit──▶ durable
//! own ────▶   │                └─ dropped ─▶ rolled back
//!             └─ query, execute: a statement of its own
//! ```
//!
//! Every parameter names its type, so that the same text serves both ways of running it: with a statement that is
//! prepared once on a connection, and, behind a pooler that hands the connection on after each transaction, with an
//! unnamed one.

use std::time::Duration;

use bytes::Bytes;
use deadpool_postgres::{ClientWrapper, Object};
use futures::{SinkExt, pin_mut};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, Statement};

use crate::store::postgres::error::{OpError, OpResult};

/// A value and what it is to the database.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection.
#[derive(Debug)]
pub struct Session {
    held: Held,
    prepared: bool,
    /// What each transaction is told first; see [`Session::limited`].
    limits: Option<String>,
}

#[derive(Debug)]
enum Held {
    /// Goes back to the pool.
    Pooled(Object),
    /// Closed with its owner.
    Own(ClientWrapper),
}

impl Session {
    pub fn pooled(object: Object, prepared: bool) -> Self {
        Self { held: Held::Pooled(object), prepared, limits: None }
    }

    pub fn own(client: ClientWrapper, prepared: bool) -> Self {
        Self { held: Held::Own(client), prepared, limits: None }
    }

    /// How long the server lets a transaction work or wait. Where a connection is handed on it cannot know it from the
    /// connection; without it, a host that vanished in mid-transaction would keep its locks for ever.
    pub fn limited(self, timeout: Duration) -> Self {
        let limits = (!self.prepared).then(|| {
            let timeout = timeout.as_millis();
            format!(
                "SET LOCAL statement_timeout = {timeout}; SET LOCAL idle_in_transaction_session_timeout = {timeout}"
            )
        });
        Self { limits, ..self }
    }

    /// Closes the connection instead of giving it back: an answer may still be on its way to it.
    pub fn discard(self) {
        match self.held {
            Held::Pooled(object) => drop(Object::take(object)),
            Held::Own(client) => drop(client),
        }
    }

    /// Whether statements stay prepared, and with them everything that belongs to a session, such as temporary tables.
    pub fn keeps_state(&self) -> bool {
        self.prepared
    }

    pub fn client(&self) -> &ClientWrapper {
        match &self.held {
            Held::Pooled(object) => object,
            Held::Own(client) => client,
        }
    }

    pub async fn query(&self, sql: &str, params: &[Param<'_>]) -> OpResult<Vec<Row>> {
        let client = self.client();
        if !self.prepared {
            return Ok(client.query_typed(sql, params).await?);
        }
        let statement = client.prepare_typed_cached(sql, &types(params)).await?;
        Ok(client.query(&statement, &values(params)).await?)
    }

    /// Never prepared, and so planned for these values and the tables' present size whatever the connection's settings:
    /// a plan that is kept from when a table was small would read one that has grown from end to end.
    pub async fn query_planned(&self, sql: &str, params: &[Param<'_>]) -> OpResult<Vec<Row>> {
        Ok(self.client().query_typed(sql, params).await?)
    }

    /// The only row, or none.
    pub async fn query_opt(&self, sql: &str, params: &[Param<'_>]) -> OpResult<Option<Row>> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    pub async fn execute(&self, sql: &str, params: &[Param<'_>]) -> OpResult<u64> {
        let client = self.client();
        if !self.prepared {
            return Ok(client.execute_typed(sql, params).await?);
        }
        let statement = client.prepare_typed_cached(sql, &types(params)).await?;
        Ok(client.execute(&statement, &values(params)).await?)
    }

    pub async fn begin(&mut self) -> OpResult<Tx<'_>> {
        let Self { prepared, ref limits, .. } = *self;
        let client = match &mut self.held {
            Held::Pooled(object) => &mut **object,
            Held::Own(client) => client,
        };
        let inner = client.transaction().await?;
        if let Some(limits) = limits {
            inner.batch_execute(limits).await?;
        }
        Ok(Tx { inner, prepared })
    }
}

/// A transaction; dropped without [`Tx::commit`] it changes nothing.
pub struct Tx<'a> {
    inner: deadpool_postgres::Transaction<'a>,
    prepared: bool,
}

impl Tx<'_> {
    pub fn keeps_state(&self) -> bool {
        self.prepared
    }

    pub fn inner(&self) -> &deadpool_postgres::Transaction<'_> {
        &self.inner
    }

    pub async fn query(&self, sql: &str, params: &[Param<'_>]) -> OpResult<Vec<Row>> {
        if !self.prepared {
            return Ok(self.inner.query_typed(sql, params).await?);
        }
        let statement = self.inner.prepare_typed_cached(sql, &types(params)).await?;
        Ok(self.inner.query(&statement, &values(params)).await?)
    }

    /// The only row, or none.
    pub async fn query_opt(&self, sql: &str, params: &[Param<'_>]) -> OpResult<Option<Row>> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    pub async fn execute(&self, sql: &str, params: &[Param<'_>]) -> OpResult<u64> {
        if !self.prepared {
            return Ok(self.inner.execute_typed(sql, params).await?);
        }
        let statement = self.inner.prepare_typed_cached(sql, &types(params)).await?;
        Ok(self.inner.execute(&statement, &values(params)).await?)
    }

    /// See [`Session::query_planned`].
    pub async fn query_planned(&self, sql: &str, params: &[Param<'_>]) -> OpResult<Vec<Row>> {
        Ok(self.inner.query_typed(sql, params).await?)
    }

    /// See [`Session::query_planned`].
    pub async fn execute_planned(&self, sql: &str, params: &[Param<'_>]) -> OpResult<u64> {
        Ok(self.inner.execute_typed(sql, params).await?)
    }

    /// Runs statements that have no parameters and answer nothing, such as those of savepoints.
    pub async fn run(&self, sql: &str) -> OpResult<()> {
        Ok(self.inner.batch_execute(sql).await?)
    }

    /// The statement of a [`Tx::copy_in`]. `COPY` takes no unnamed one: behind a pooler it lives until it is dropped,
    /// which must be within the transaction, while the connection behind is still the same.
    pub async fn prepare_copy(&self, sql: &str) -> OpResult<Statement> {
        if !self.prepared {
            return Ok(self.inner.prepare(sql).await?);
        }
        Ok(self.inner.prepare_typed_cached(sql, &[]).await?)
    }

    /// Sends the pieces of a `COPY … FROM STDIN` one after the other. Answers the rows.
    pub async fn copy_in(&self, statement: &Statement, pieces: impl Iterator<Item = Bytes>) -> OpResult<u64> {
        let sink = self.inner.copy_in(statement).await?;
        pin_mut!(sink);
        for piece in pieces {
            sink.feed(piece).await?;
        }
        Ok(sink.finish().await?)
    }

    /// Answers when its locks are gone, which a dropped one does not wait for.
    pub async fn roll_back(self) -> OpResult<()> {
        self.inner.rollback().await.map_err(OpError::from)
    }

    pub async fn commit(self) -> OpResult<()> {
        self.inner.commit().await.map_err(OpError::from)
    }
}

fn types(params: &[Param<'_>]) -> Vec<Type> {
    params.iter().map(|(_, kind)| kind.clone()).collect()
}

fn values<'a>(params: &[Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|(value, _)| *value).collect()
}
