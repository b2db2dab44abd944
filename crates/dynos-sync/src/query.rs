//! Reading by SQL, and following what it answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use dynos_sync_core::{Fields, Invalid, Queries, ReplicaError, Value};
use futures_util::{Stream, StreamExt, stream::BoxStream};
use serde::de::DeserializeOwned;

use crate::{engine::SyncEngine, error::SyncError};

/// Parameters of a query, in the order of their places: `()` for none, an array or vector of one type, or a tuple.
pub trait Params {
    /// The parameters, as JSON values.
    fn into_values(self) -> Vec<Value>;
}

impl Params for () {
    fn into_values(self) -> Vec<Value> {
        Vec::new()
    }
}

impl<T: Into<Value>> Params for Vec<T> {
    fn into_values(self) -> Vec<Value> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<T: Into<Value>, const N: usize> Params for [T; N] {
    fn into_values(self) -> Vec<Value> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! tuple {
    ($($name:ident)+) => {
        impl<$($name: Into<Value>),+> Params for ($($name,)+) {
            fn into_values(self) -> Vec<Value> {
                #[allow(non_snake_case, reason = "a variable a type")]
                let ($($name,)+) = self;
                vec![$($name.into()),+]
            }
        }
    };
}

tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);
tuple!(A B C D E F G);
tuple!(A B C D E F G H);

/// What a query answers: at once, and again whenever a commit has changed it.
///
/// Whose commit it was does not matter: an edit of this program, what was pulled, or another program's SQL. Commits that come
/// while nobody takes the next item count as one, and a commit that leaves the answer as it was yields nothing.
///
/// It is ended by dropping it, or with the engine, when that is closed or its last handle is gone. The database stays open until then.
pub struct LiveQuery<R>(BoxStream<'static, Result<Vec<R>, SyncError>>);

impl<R> LiveQuery<R> {
    pub(crate) fn new(answers: impl Stream<Item = Result<Vec<R>, SyncError>> + Send + 'static) -> Self {
        Self(answers.boxed())
    }
}

impl LiveQuery<Fields> {
    /// Makes something of each row.
    pub(crate) fn map_rows<R>(
        self,
        make: impl Fn(Fields) -> Result<R, SyncError> + Send + 'static,
    ) -> LiveQuery<R> {
        LiveQuery(self.0.map(move |rows| rows?.into_iter().map(&make).collect()).boxed())
    }
}

impl<R> std::fmt::Debug for LiveQuery<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveQuery")
    }
}

impl<R> LiveQuery<R> {
    /// What the query answers now, once that is something else than what was answered last. `None`: it has ended.
    pub async fn next(&mut self) -> Option<Result<Vec<R>, SyncError>> {
        StreamExt::next(&mut self.0).await
    }
}

impl<R> Stream for LiveQuery<R> {
    type Item = Result<Vec<R>, SyncError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl SyncEngine {
    /// The rows that a query answers, as values of any type that serde can make from the columns' names and values;
    /// [`Fields`] takes them as they are. It runs beside writers and sees one moment. It cannot write.
    ///
    /// ```
    /// # use futures_executor::block_on;
    /// # use dynos_sync::{SyncEngine, fields};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("app.sqlite");
    /// # rusqlite::Connection::open(&path)?.execute_batch("CREATE TABLE tasks (id TEXT PRIMARY KEY, title TEXT, done BOOLEAN)")?;
    /// # let remote = dynos_sync::core::memory::MemoryServer::new().remote("ada");
    /// # block_on(async {
    /// # let engine = SyncEngine::open(path, remote)?.table("tasks").start().await?;
    /// #[derive(serde::Deserialize)]
    /// struct Open {
    ///     title: String,
    /// }
    ///
    /// engine.write("tasks", "t1", fields([("title", "milk".into()), ("done", false.into())])).await?;
    /// let open: Vec<Open> = engine.query("SELECT title FROM tasks WHERE done = ? AND title LIKE ?", (false, "m%")).await?;
    /// assert_eq!(open[0].title, "milk");
    /// # engine.close().await;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SyncError::Invalid`] for a query that the database does not understand, or that writes, and where the database takes
    /// none; [`SyncError::Mismatch`] for a row that is no `R`.
    pub async fn query<R: DeserializeOwned>(
        &self,
        sql: &str,
        params: impl Params,
    ) -> Result<Vec<R>, SyncError> {
        read(self.queries()?.query(sql, params.into_values()).await, sql)
    }

    /// Follows a query. See [`LiveQuery`]; its errors are those of [`query`](Self::query), and it goes on after them.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where the database takes no queries.
    pub fn watch<R: DeserializeOwned + 'static>(
        &self,
        sql: &str,
        params: impl Params,
    ) -> Result<LiveQuery<R>, SyncError> {
        let sql = sql.to_owned();
        let answers = self.queries()?.watch(sql.clone(), params.into_values());
        let answers = answers.map(move |rows| read(rows, &sql));
        Ok(LiveQuery(answers.take_until(self.shared().ended()).boxed()))
    }

    fn queries(&self) -> Result<&dyn Queries, SyncError> {
        self.replica().queries().ok_or_else(|| {
            Invalid::new("sql", "this database takes no queries").remedy("use an SQLite database").into()
        })
    }
}

fn read<R: DeserializeOwned>(
    rows: Result<Vec<Fields>, ReplicaError>,
    what: &str,
) -> Result<Vec<R>, SyncError> {
    rows?.into_iter().map(|row| typed(row, what)).collect()
}

/// A record or row as a value of the application's type.
pub(crate) fn typed<R: DeserializeOwned>(row: Fields, what: &str) -> Result<R, SyncError> {
    serde_json::from_value(Value::Object(row))
        .map_err(|error| SyncError::Mismatch { what: what.to_owned(), problem: error.to_string() })
}
