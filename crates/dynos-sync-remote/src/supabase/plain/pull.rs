//! Pages of changes: rows in the order in which they were written.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use dynos_sync_core::{
    Change, Cursor, RecordId, RemoteError, ReplicaId, TableName, measure,
    wire::{Page, PullRequest},
};

use super::{
    Plain, id,
    place::{Mark, Place, Walk},
    query,
    row::Row,
    time::{self, Micros},
};
use crate::supabase::error::{Failure, Missing, check};

impl Plain {
    /// The next page. PostgREST cuts answers without saying so, at a number of its own: a page is put together of several,
    /// and only an empty one is the end.
    pub(super) async fn pull_page(&self, request: &PullRequest) -> Result<Page, RemoteError> {
        let mut place = Place::parse(request.cursor.as_ref())?;
        if place.walk.is_none() {
            self.status.begin(request.replica, &request.table);
        }
        let mut sheet = Sheet::new(request.limit.max(1));
        while sheet.room() > 0 {
            let from = place.from.as_ref().map(|mark| self.long_ids.complete(request, mark));
            let (rows, now) = self.list(&request.table, from.as_ref(), sheet.room()).await?;
            let mut walk = place.walk.clone().unwrap_or(Walk { began: now, last: 0 });
            let Some((at, id)) = rows.last().map(|last| (last.updated_at, last.id.clone())) else {
                let end = place.ended(&walk, self.window);
                self.status.end(request.replica, &request.table, &end, &walk, self.window);
                return Ok(sheet.page(end.cursor(), false));
            };
            for change in rows.into_iter().filter_map(|row| change(&request.table, row, &mut walk)) {
                sheet.add(change);
            }
            place = place.after(at, &id, walk);
            self.long_ids.note(request, &place, id);
        }
        Ok(sheet.page(place.cursor(), true))
    }

    /// Rows behind a mark, and a time by the server's clock that is not after the reading.
    async fn list(
        &self,
        table: &TableName,
        from: Option<&Mark>,
        limit: usize,
    ) -> Result<(Vec<Row>, Micros), RemoteError> {
        let asked = Instant::now();
        let mut limit = limit;
        loop {
            let fewer = limit.div_ceil(4);
            let answer = match self.client.send(&query::page(table, from, limit)).await {
                // Too long, for example.
                Err(RemoteError::Protocol(_)) if limit > 1 => {
                    limit = fewer;
                    continue;
                }
                answer => answer?,
            };
            match check(&answer) {
                Ok(()) => {
                    let date = answer.header("date").and_then(time::parse_date);
                    let now = date.ok_or_else(|| unreadable(table, "the answer has no date"))?;
                    let rows = answer.json().map_err(|error| unreadable(table, error))?;
                    return Ok((rows, now.saturating_sub(time::micros(asked.elapsed()))));
                }
                Err(Failure::StatementTimeout) if limit > 1 => limit = fewer,
                Err(failure) => return Err(refusal(failure)),
            }
        }
    }
}

/// A page that is being filled.
struct Sheet {
    changes: Vec<Change>,
    ids: HashSet<RecordId>,
    bytes: usize,
    limit: usize,
}

impl Sheet {
    /// No rows are added to more than that, in bytes of records.
    const BYTES: usize = 4 * 1024 * 1024;

    fn new(limit: usize) -> Self {
        Self { changes: Vec::new(), ids: HashSet::new(), bytes: 0, limit }
    }

    /// For how many changes there is room.
    fn room(&self) -> usize {
        if self.bytes > Self::BYTES { 0 } else { self.limit - self.changes.len() }
    }

    fn add(&mut self, change: Change) {
        self.bytes += change.record.as_ref().and_then(|record| measure(record).ok()).unwrap_or(0);
        // It was written while the page was read.
        if !self.ids.insert(change.id.clone()) {
            self.changes.retain(|earlier| earlier.id != change.id);
        }
        self.changes.push(change);
    }

    fn page(self, next: Cursor, has_more: bool) -> Page {
        Page { changes: self.changes, settled: Vec::new(), next, has_more, total: None }
    }
}

fn change(table: &TableName, row: Row, walk: &mut Walk) -> Option<Change> {
    let Some(id) = id::of_column(&row.id) else {
        tracing::warn!(%table, bytes = row.id.len(), "a row was passed over: its id is too long for a device");
        return None;
    };
    if row.record.as_ref().is_some_and(|record| measure(record).is_err()) {
        tracing::warn!(%table, "a row was passed over: it is nested too deep for a device");
        return None;
    }
    let at = row.updated_at.min(walk.latest());
    // Rows that were written in one transaction have one time.
    walk.last = time::seq(at).max(walk.last + 1);
    // Whose it is, and whether it was listed before, is not known.
    Some(Change { id, seq: walk.last, at: time::millis(at), own: false, again: true, record: row.record })
}

fn unreadable(table: &TableName, problem: impl std::fmt::Display) -> RemoteError {
    RemoteError::Protocol(format!(
        "table {table}: {problem} (it needs columns id and updated_at, a timestamptz)"
    ))
}

fn refusal(failure: Failure) -> RemoteError {
    match failure {
        Failure::Missing(Missing::Column, message) => RemoteError::Refused {
            code: "not_found".to_owned(),
            message: format!("{message}: to be synced as it is, a table needs columns id and updated_at"),
        },
        failure => failure.into(),
    }
}

/// Ids that are too long for a cursor, of the last row of a page: the cursor has their beginning. After a restart the
/// next page begins with rows that the one before held too.
#[derive(Debug, Default)]
pub(super) struct LongIds {
    ids: Mutex<HashMap<(ReplicaId, TableName), (Mark, String)>>,
}

impl LongIds {
    fn note(&self, request: &PullRequest, place: &Place, id: String) {
        if let Some(mark) = place.from.as_ref().filter(|mark| mark.cut) {
            let key = (request.replica, request.table.clone());
            self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (mark.clone(), id));
        }
    }

    fn complete(&self, request: &PullRequest, mark: &Mark) -> Mark {
        let key = (request.replica, request.table.clone());
        let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        match ids.get(&key).filter(|(noted, _)| noted == mark) {
            Some((_, id)) => Mark { id: Some(id.clone()), ..mark.clone() },
            None => mark.clone(),
        }
    }
}
