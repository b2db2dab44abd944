//! Why a write found no row.

use std::collections::HashMap;

use dynos_sync_core::{
    Operation, RemoteError,
    wire::{Current, PushResult, RejectCode},
};

use super::{Settled, Target, Write, bulk::URL_BYTES};
use crate::supabase::plain::{Plain, query, row::Row, time};

/// The most rows that are looked up in one request.
const ROWS: usize = 200;

impl Plain {
    /// What became of writes that found no row that fits their condition: the row was written by somebody else, is not
    /// there, or may not be touched.
    pub(super) async fn verdicts(
        &self,
        to: Target<'_>,
        writes: Vec<Write<'_>>,
    ) -> Result<Settled, RemoteError> {
        let mut settled = Settled::new();
        let mut rest = &writes[..];
        while !rest.is_empty() {
            let (some, others) = rest.split_at(in_one_url(rest));
            rest = others;
            let mut found = self.look_up(to, some).await?;
            for write in some {
                let row = found.by_id.remove(&write.id());
                settled.push(self.verdict(to, write, row, found.strangers));
            }
        }
        Ok(settled)
    }

    fn verdict(
        &self,
        to: Target<'_>,
        write: &Write<'_>,
        row: Option<Row>,
        strangers: bool,
    ) -> (usize, PushResult) {
        let Some(row) = row else { return absent(write, strangers) };
        let seq = time::seq(row.updated_at);
        if row.updated_at > self.limit(to, write) {
            // A write whose answer was lost, most likely.
            if row.has(write.entry) {
                return (write.n, PushResult::Duplicate { seq, record: row.record });
            }
            return (write.n, PushResult::Conflict { seq });
        }
        match (write.entry.op, row.record) {
            (Operation::Patch, None) => not_found(write),
            _ => write.rejected(RejectCode::Forbidden, "the row may be seen, but not written"),
        }
    }

    /// The rows, page by page: PostgREST cuts answers.
    async fn look_up(&self, to: Target<'_>, writes: &[Write<'_>]) -> Result<Found, RemoteError> {
        let mut found = Found::default();
        let mut missing: Vec<String> = writes.iter().map(Write::id).collect();
        while !missing.is_empty() {
            let request = query::of_ids(query::select(to.table.as_str()), missing.iter().map(String::as_str));
            let rows: Vec<Row> = self.client.exchange(&request).await??;
            let before = missing.len();
            for row in rows {
                found.strangers |= !missing.contains(&row.id);
                missing.retain(|id| *id != row.id);
                found.by_id.insert(row.id.clone(), row);
            }
            if missing.len() == before {
                break;
            }
        }
        Ok(found)
    }
}

/// Rows that were looked up.
#[derive(Default)]
struct Found {
    by_id: HashMap<String, Row>,
    /// Whether there were rows with other ids than those asked for, which are the same to the database.
    strangers: bool,
}

/// How many of the writes' ids have room in a URL: one at least.
fn in_one_url(writes: &[Write<'_>]) -> usize {
    let mut bytes = 0;
    let fits = |write: &&Write<'_>| {
        bytes += query::size_in_url(&write.id());
        bytes <= URL_BYTES
    };
    writes.iter().take(ROWS).take_while(fits).count().max(1)
}

fn absent(write: &Write<'_>, strangers: bool) -> (usize, PushResult) {
    match write.entry.op {
        Operation::Delete => (write.n, PushResult::Applied { seq: 0, record: None }),
        Operation::Patch => not_found(write),
        _ if strangers => write.rejected(
            RejectCode::Invalid,
            "the database writes this id in another way (a uuid in lower case, a number without zeros before it)",
        ),
        // It could not be inserted because it is there, and it cannot be seen.
        _ => write.rejected(RejectCode::Forbidden, "there is a row with this id that may not be seen"),
    }
}

fn not_found(write: &Write<'_>) -> (usize, PushResult) {
    let refusal = PushResult::rejected(RejectCode::NotFound, "the record does not exist on the server");
    (write.n, refusal.showing(Current { record: None }))
}
