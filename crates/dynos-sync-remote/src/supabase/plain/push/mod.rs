//! Offering entries. Each write has a condition: nobody else has written the row since the entry's author saw it.

mod bulk;
mod change;
mod group;
mod verdict;

use dynos_sync_core::{
    RemoteError, ReplicaId, Seq, TableName,
    wire::{PushAnswer, PushEntry, PushRequest, PushResult, RejectCode},
};

use self::{
    bulk::Bulk,
    group::{Group, Kind},
};
use super::{
    Plain, id,
    place::Place,
    row::{self, Row},
    time::{self, Micros},
};
use crate::supabase::error::{Failure, Missing};

/// An entry on its way.
#[derive(Clone, Copy)]
struct Write<'a> {
    /// Its place in the request.
    n: usize,
    entry: &'a PushEntry,
    /// What its author saw: versions of the row up to that time.
    seen: Option<Micros>,
}

/// Where writes go.
#[derive(Clone, Copy)]
struct Target<'a> {
    replica: ReplicaId,
    table: &'a TableName,
    soft_delete: bool,
}

/// Results, and whose they are.
type Settled = Vec<(usize, PushResult)>;

impl Plain {
    /// Offers the entries, those of one record in their order. It may be repeated: what was applied is applied again, or
    /// found to be there.
    ///
    /// # Errors
    /// What concerns the whole call. Some entries may be applied then.
    pub(super) async fn push_all(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let writes = request
            .entries
            .iter()
            .enumerate()
            .map(|(n, entry)| Ok(Write { n, entry, seen: Place::parse(entry.base.as_ref())?.seen }));
        let writes: Vec<Write<'_>> = writes.collect::<Result<_, RemoteError>>()?;
        let mut settled = Settled::new();
        for run in group::runs(&writes) {
            settled.extend(self.push_run(request.replica, run).await?);
        }
        settled.sort_by_key(|(n, _)| *n);
        Ok(PushAnswer { results: numbered(settled), heads: [].into() })
    }

    /// Offers entries of different records, in groups. What a constraint refused is offered once more by itself: entries
    /// of other groups may have been in the way, or may be what it refers to.
    async fn push_run(&self, replica: ReplicaId, run: &[Write<'_>]) -> Result<Settled, RemoteError> {
        let mut settled = Settled::new();
        for group in group::groups(run) {
            settled.extend(self.push_group(replica, group).await?);
        }
        if settled.iter().any(|(_, result)| matches!(result, PushResult::Applied { .. })) {
            for write in run {
                let refused = |(n, result): &&mut (usize, PushResult)| *n == write.n && is_constraint(result);
                if let Some(place) = settled.iter_mut().find(refused) {
                    let again = self.push_group(replica, Group::of(*write)).await?;
                    *place = again.into_iter().next().unwrap_or_else(|| place.clone());
                }
            }
        }
        Ok(settled)
    }

    async fn push_group(&self, replica: ReplicaId, group: Group<'_>) -> Result<Settled, RemoteError> {
        let Group { table, kind, writes } = group;
        let soft_delete = match self.soft_delete(table).await? {
            Ok(soft_delete) => soft_delete,
            Err(failure) => return refused(&writes, failure),
        };
        let to = Target { replica, table, soft_delete };
        let (mut settled, writes) = translatable(writes);
        settled.extend(match kind {
            Kind::Insert(_) => {
                let (mut done, existing) = self.bulk(to, Bulk::Insert, writes).await?;
                done.extend(self.change(to, existing).await?);
                done
            }
            Kind::Patch => self.change(to, writes).await?,
            Kind::Delete => self.delete(to, writes).await?,
        });
        Ok(settled)
    }

    /// The latest version of the row that the entry may overwrite.
    fn limit(&self, to: Target<'_>, write: &Write<'_>) -> Micros {
        let own = self.written.last(to.replica, to.table, &write.entry.id);
        write.seen.max(own).unwrap_or(Micros::MIN)
    }

    /// The row is written; this is what the database made of it.
    fn applied(&self, to: Target<'_>, write: &Write<'_>, row: Row) -> (usize, PushResult) {
        self.written.note(to.replica, to.table, &write.entry.id, row.updated_at);
        let record = row.record.filter(|record| Some(record) != write.entry.data.as_ref());
        let record = write.entry.data.as_ref().and(record);
        (write.n, PushResult::Applied { seq: time::seq(row.updated_at), record })
    }

    /// A column is missing: what was known of the table may be out of date.
    fn learn(&self, to: Target<'_>, failure: &Failure) {
        if matches!(failure, Failure::Missing(Missing::Column, _)) {
            self.shapes.forget(to.table);
        }
    }
}

impl Write<'_> {
    /// What is in the column `id`.
    fn id(&self) -> String {
        id::to_column(&self.entry.id)
    }

    fn rejected(&self, code: RejectCode, message: impl Into<String>) -> (usize, PushResult) {
        (self.n, PushResult::rejected(code, message))
    }
}

/// What the failure means for each of the writes, where it concerns them and not the call.
fn refused(writes: &[Write<'_>], failure: Failure) -> Result<Settled, RemoteError> {
    match failure.rejection() {
        Some((code, message)) => {
            let unknown: Vec<String> = failure.unknown_column().map(str::to_owned).into_iter().collect();
            let refusal = PushResult::rejected(code, message).naming(unknown);
            Ok(writes.iter().map(|write| (write.n, refusal.clone())).collect())
        }
        None => Err(failure.into()),
    }
}

fn is_constraint(result: &PushResult) -> bool {
    matches!(result, PushResult::Rejected { code: RejectCode::Constraint, .. })
}

/// Refuses what the database would take for something else.
fn translatable(writes: Vec<Write<'_>>) -> (Settled, Vec<Write<'_>>) {
    let mut settled = Settled::new();
    let mut kept = Vec::with_capacity(writes.len());
    for write in writes {
        match row::untranslatable(write.entry) {
            None => kept.push(write),
            Some(field) => settled.push(write.rejected(
                RejectCode::Invalid,
                format!("{field}: a blob, an infinity or a text that is no UTF-8 has no place in a plain table (keep it as text)"),
            )),
        }
    }
    (settled, kept)
}

/// Numbers rise in the order of the entries, though one transaction's writes have one time.
fn numbered(settled: Settled) -> Vec<PushResult> {
    let mut last: Seq = 0;
    let mut results: Vec<PushResult> = settled.into_iter().map(|(_, result)| result).collect();
    for result in &mut results {
        if let PushResult::Applied { seq, .. } = result {
            last = (*seq).max(last + 1);
            *seq = last;
        }
    }
    results
}
