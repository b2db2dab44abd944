//! Reading a device's database by queries of its own language, and following what they answer.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::{record::Fields, replica::ReplicaError};

/// Rows, each by the names of its columns.
pub type Rows = Vec<Fields>;

/// A database that takes queries.
#[async_trait]
pub trait Queries: Send + Sync {
    /// What a query answers now. Its parameters stand in the order of their places. It cannot write.
    ///
    /// # Errors
    /// [`ReplicaError::Invalid`] for a query that the database does not understand, or for too many or too few parameters.
    async fn query(&self, sql: &str, params: Vec<Value>) -> Result<Rows, ReplicaError>;

    /// What a query answers: at once, and whenever it answers something else after a commit to one of its tables, whoever has
    /// committed. Commits that come while nobody takes the next item count as one. An error is an item like any other; the stream
    /// ends when the database is closed.
    fn watch(&self, sql: String, params: Vec<Value>) -> BoxStream<'static, Result<Rows, ReplicaError>>;
}
