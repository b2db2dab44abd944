//! [`SimpleRemote`]: a simple backend, lifted into a remote.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::{
    place::Place,
    remote_store::{RemoteRow, RemoteStore, RemoteWrite},
};
use crate::{
    clock::Millis,
    cursor::Cursor,
    error::Limits,
    ids::{RecordKey, ReplicaId, Seq},
    record::Change,
    remote::{Remote, RemoteError},
    table::TableSpec,
    wire::{
        Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushEntry, PushRequest, PushResult, RejectCode,
    },
};

/// A [`RemoteStore`] as a [`Remote`].
///
/// # What is weaker than the protocol
///
/// * **No compare and set.** The last push wins on the server, whatever the conflict strategy: a strategy decides only
///   where a pull brings a change of a record that still has pending edits. Pull before you push.
/// * **No memory of what was pushed.** Where an answer is lost, the edit is sent again. That is harmless to the record, as
///   pushes are idempotent, unless somebody else wrote it in between: then the repeat wins.
/// * **A batch is not one transaction.** An error in its midst leaves the edits before it applied; they are repeated.
/// * **No heads.** Every table is pulled each time, at least one request a table.
/// * **Cursors come from a clock.** A row that becomes visible after others with a later `updated_at` were read is missed,
///   unless it is within the [`overlap`](Self::overlap).
/// * **Deletes travel only where the store reports them.** Purged tombstones and restored backups go unnoticed, and so
///   does a second database that uses this replica's identity.
/// * A cursor holds 400 bytes of an id. A row with a longer one comes again with the next page, and of rows with one time
///   whose ids begin alike for longer than that, those beyond a page are missed.
#[derive(Debug)]
pub struct SimpleRemote {
    store: Box<dyn RemoteStore>,
    server: String,
    overlap: Millis,
}

impl SimpleRemote {
    /// Lifts a store.
    pub fn new(store: impl RemoteStore) -> Self {
        Self { store: Box::new(store), server: "simple".to_owned(), overlap: 0 }
    }

    /// Names the server's data, see [`Heads::server`]: a replica refuses to sync with other data than it began with.
    #[must_use]
    pub fn server(mut self, identity: impl Into<String>) -> Self {
        self.server = identity.into();
        self
    }

    /// How far a pull goes back behind the end of the one before, for rows that became visible late: 0 unless set.
    ///
    /// Rows in that window come again with each pull.
    #[must_use]
    pub fn overlap(mut self, window: Millis) -> Self {
        self.overlap = window;
        self
    }

    async fn push_entry(&self, writer: ReplicaId, entry: &PushEntry) -> Result<PushResult, RemoteError> {
        let key = RecordKey { table: entry.table.clone(), id: entry.id.clone() };
        let edit = entry.edit();
        match self.store.push(&RemoteWrite { key: &key, edit: &edit, at: entry.at, writer }).await {
            Ok(()) => Ok(PushResult::Applied { seq: 0, record: None }),
            Err(RemoteError::Refused { code, message }) => Ok(rejected(reject_code(&code), message)),
            Err(RemoteError::TooLarge) => {
                Ok(rejected(RejectCode::TooLarge, "the record is larger than the server takes".to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Remote for SimpleRemote {
    /// Does nothing: the store's tables are its operator's.
    async fn declare(&self, _: &[TableSpec]) -> Result<(), RemoteError> {
        Ok(())
    }

    /// None: the store does not tell.
    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        Ok(Vec::new())
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        // No table ever stands there, and so each is pulled.
        let unknown = Cursor::new("?");
        let heads = request.tables.into_iter().map(|table| (table, unknown.clone())).collect();
        Ok(Heads { server: self.server.clone(), last_counter: 0, heads })
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let mut results = Vec::with_capacity(request.entries.len());
        for entry in &request.entries {
            results.push(self.push_entry(request.replica, entry).await?);
        }
        Ok(PushAnswer { results, heads: [].into() })
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        let from = Place::parse(request.cursor.as_ref())?;
        let limit = request.limit.max(1);
        let since = from.since(self.overlap);
        let mut rows = self.store.pull_since(&request.table, since.as_ref(), limit).await?;
        rows.truncate(limit);
        let place = rows
            .last()
            .map_or_else(|| from.clone(), |last| Place::after(last, from.count + rows.len() as Seq));
        // Backends cap their answers without saying so: the end is where nothing new comes any more.
        let ended = rows.is_empty() || place.mark == since;
        let changes =
            (from.count + 1..).zip(rows).map(|(seq, row)| change(seq, row, request.replica)).collect();
        let next = Place { ended, ..place }.cursor();
        Ok(Page { changes, settled: Vec::new(), next, has_more: !ended, total: None })
    }
}

fn change(seq: Seq, row: RemoteRow, asking: ReplicaId) -> Change {
    let RemoteRow { id, updated_at, writer, record } = row;
    let own = writer == Some(asking);
    Change { id, seq, at: updated_at.clamp(0, Limits::LATEST), own, again: true, record }
}

fn rejected(code: RejectCode, message: String) -> PushResult {
    PushResult::rejected(code, message)
}

/// The code that the wire knows by this word.
fn reject_code(word: &str) -> RejectCode {
    RejectCode::deserialize(Value::from(word)).unwrap_or(RejectCode::Other)
}
