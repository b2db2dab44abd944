//! A device as a case plays it, with the unexpected unwrapped.

use std::{collections::BTreeMap, sync::Arc};

use super::Fixture;
use crate::{
    cursor::Cursor,
    entry::{Edit, Operation},
    ids::{Counter, RecordId, ReplicaId, Seq, TableName},
    record::{Change, Fields},
    remote::{Remote, RemoteError},
    table::TableSpec,
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushEntry, PushRequest, PushResult},
};

/// The table of most cases.
pub(super) const TABLE: &str = "tasks";
/// A second one.
pub(super) const OTHER: &str = "lists";

pub(super) fn name(table: &str) -> TableName {
    table.parse().unwrap()
}

/// An entry of a replica that has pulled nothing yet.
pub(super) fn entry(counter: Counter, id: &str, edit: Edit) -> PushEntry {
    let op = edit.operation();
    let data = (op != Operation::Delete).then(|| edit.into_fields());
    PushEntry {
        counter,
        table: name(TABLE),
        id: id.parse().unwrap(),
        op,
        base: None,
        at: 1000,
        data,
        transaction: None,
    }
}

/// An entry of a replica that has seen all up to `base`.
pub(super) fn entry_on(base: &Cursor, counter: Counter, id: &str, edit: Edit) -> PushEntry {
    PushEntry { base: Some(base.clone()), ..entry(counter, id, edit) }
}

/// The number of an applied change.
pub(super) fn applied(result: &PushResult) -> Seq {
    match result {
        PushResult::Applied { seq, .. } => *seq,
        other => panic!("not applied: {other:?}"),
    }
}

pub(super) fn ids(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|change| change.id.as_str()).collect()
}

/// A replica of a user's.
pub(super) struct Client {
    pub(super) remote: Arc<dyn Remote>,
    pub(super) replica: ReplicaId,
    knows_heads: bool,
}

impl Client {
    /// The user's replica of that number, the tables declared.
    pub(super) async fn new(fixture: &dyn Fixture, user: &str, number: u8) -> Self {
        let client = Self::connect(fixture, user, number).await;
        client.remote.declare(&[TABLE, OTHER].map(|table| TableSpec::document(name(table)))).await.unwrap();
        client
    }

    /// Two replicas of one user.
    pub(super) async fn two(fixture: &dyn Fixture) -> [Self; 2] {
        [Self::new(fixture, "ada", 1).await, Self::new(fixture, "ada", 2).await]
    }

    pub(super) async fn connect(fixture: &dyn Fixture, user: &str, number: u8) -> Self {
        Self {
            remote: fixture.remote(user).await,
            replica: ReplicaId::from_random([number; 16]),
            knows_heads: fixture.knows_heads(),
        }
    }

    pub(super) async fn try_push(&self, entries: Vec<PushEntry>) -> Result<PushAnswer, RemoteError> {
        self.remote.push(&PushRequest::new(self.replica, entries)).await
    }

    pub(super) async fn push(&self, entries: Vec<PushEntry>) -> PushAnswer {
        let count = entries.len();
        let answer = self.try_push(entries).await.unwrap();
        assert_eq!(answer.results.len(), count, "one result an entry");
        answer
    }

    pub(super) async fn push_one(&self, entry: PushEntry) -> PushResult {
        self.push(vec![entry]).await.results.remove(0)
    }

    /// Pushes an entry that has to be applied.
    pub(super) async fn apply(&self, entry: PushEntry) -> Seq {
        applied(&self.push_one(entry).await)
    }

    pub(super) fn request(&self, cursor: Option<&Cursor>) -> PullRequest {
        PullRequest {
            replica: self.replica,
            table: name(TABLE),
            cursor: cursor.cloned(),
            seen: None,
            limit: 1000,
            unsettled: Vec::new(),
            all: false,
        }
    }

    /// What others changed after a cursor.
    pub(super) async fn pull(&self, cursor: Option<&Cursor>) -> Page {
        self.remote.pull(self.request(cursor)).await.unwrap()
    }

    pub(super) async fn pull_error(&self, cursor: &Cursor) -> RemoteError {
        self.remote.pull(self.request(Some(cursor))).await.expect_err("the pull has to fail")
    }

    /// All pages of a request.
    pub(super) async fn pages(&self, mut request: PullRequest) -> Vec<Page> {
        let mut pages = Vec::new();
        loop {
            let page = self.remote.pull(request.clone()).await.unwrap();
            let (next, has_more) = (page.next.clone(), page.has_more);
            assert!(
                page.changes.len() <= request.limit,
                "{} changes, {} were asked for",
                page.changes.len(),
                request.limit
            );
            assert!(!has_more || !page.changes.is_empty(), "a page that is not the last one holds something");
            pages.push(page);
            request.cursor = Some(next);
            if !has_more {
                return pages;
            }
        }
    }

    /// The living records of a table, whoever made them.
    pub(super) async fn contents_of(&self, table: &str) -> BTreeMap<RecordId, Fields> {
        let request = PullRequest { table: name(table), all: true, ..self.request(None) };
        let changes = self.pages(request).await.into_iter().flat_map(|page| page.changes);
        changes.filter_map(|change| Some((change.id, change.record?))).collect()
    }

    pub(super) async fn record(&self, id: &str) -> Option<Fields> {
        self.contents_of(TABLE).await.remove(&id.parse::<RecordId>().unwrap())
    }

    pub(super) async fn heads(&self, tables: &[&str]) -> Heads {
        let tables = tables.iter().map(|table| name(table)).collect();
        self.remote.heads(HeadsRequest { replica: self.replica, tables }).await.unwrap()
    }

    /// Where a table ends.
    pub(super) async fn head_of(&self, table: &str) -> Cursor {
        if !self.knows_heads {
            let request = PullRequest { table: name(table), all: true, ..self.request(None) };
            return self.pages(request).await.pop().unwrap().next;
        }
        self.heads(&[table]).await.heads.remove(&name(table)).unwrap()
    }

    pub(super) async fn head(&self) -> Cursor {
        self.head_of(TABLE).await
    }
}
