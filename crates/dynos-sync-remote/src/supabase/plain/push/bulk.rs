//! Many rows in one request.

use std::collections::HashMap;

use dynos_sync_core::{Fields, RemoteError, measure};
use reqwest::Method;

use super::{Settled, Target, Write, refused};
use crate::{
    supabase::{
        error::{Failure, Missing},
        plain::{
            Plain, query,
            row::{self, ID, Row},
            time::Micros,
        },
    },
    transport::Request,
};

/// What is done to the rows.
#[derive(Clone, Copy)]
pub(super) enum Bulk {
    /// They are made, where there are none with their ids.
    Insert,
    /// They are deleted, where they were not written later than that.
    Delete { until: Micros },
}

/// The most rows of a request.
const ROWS: usize = 200;
/// The most bytes of a request's records.
const BYTES: usize = 1024 * 1024;
/// The most bytes that ids take in a URL: gateways refuse URLs of more than 16 kB.
pub(super) const URL_BYTES: usize = 8 * 1024;

impl Plain {
    /// Does it to all rows. Answers what is settled by that, and which writes found no row to do it to, or one in the way.
    pub(super) async fn bulk<'a>(
        &self,
        to: Target<'_>,
        bulk: Bulk,
        writes: Vec<Write<'a>>,
    ) -> Result<(Settled, Vec<Write<'a>>), RemoteError> {
        let (mut settled, mut untouched) = (Settled::new(), Vec::new());
        let mut waiting = batches(writes);
        while let Some(batch) = waiting.pop() {
            let request = self.request(to, bulk, &batch)?;
            match self.client.exchange::<Vec<Row>>(&request).await? {
                Ok(rows) => {
                    let mut rows: HashMap<String, Row> =
                        rows.into_iter().map(|row| (row.id.clone(), row)).collect();
                    for write in batch {
                        match rows.remove(&write.id()) {
                            Some(row) => settled.push(self.applied(to, &write, row)),
                            None => untouched.push(write),
                        }
                    }
                }
                Err(failure) => {
                    self.learn(to, &failure);
                    match after(failure, batch)? {
                        Next::Halves(halves) => waiting.extend(halves),
                        Next::Refused(refused) => settled.extend(refused),
                    }
                }
            }
        }
        Ok((settled, untouched))
    }

    fn request(&self, to: Target<'_>, bulk: Bulk, batch: &[Write<'_>]) -> Result<Request, RemoteError> {
        let ids: Vec<String> = batch.iter().map(Write::id).collect();
        let ids = ids.iter().map(String::as_str);
        match bulk {
            Bulk::Insert => {
                let rows: Vec<Fields> = batch.iter().map(|write| new_row(to, write)).collect();
                let columns: Vec<String> = rows.first().into_iter().flat_map(Fields::keys).cloned().collect();
                query::insert(&self.client, to.table, &columns, &rows)
            }
            Bulk::Delete { until } => {
                let request = match batch.first() {
                    Some(write) if to.soft_delete => {
                        let marked = row::columns(write.entry, true);
                        query::write(&self.client, Method::PATCH, to.table, &marked)?
                    }
                    _ => query::delete(to.table),
                };
                Ok(query::until(query::of_ids(request, ids), until))
            }
        }
    }
}

fn new_row(to: Target<'_>, write: &Write<'_>) -> Fields {
    let mut columns = row::columns(write.entry, to.soft_delete);
    columns.insert(ID.to_owned(), write.id().into());
    columns
}

/// Parts the writes into requests of a bounded size; the first is the last.
fn batches(writes: Vec<Write<'_>>) -> Vec<Vec<Write<'_>>> {
    let mut batches: Vec<Vec<Write<'_>>> = Vec::new();
    let (mut bytes, mut in_url) = (0, 0);
    for write in writes {
        let size = write.entry.data.as_ref().and_then(|data| measure(data).ok()).unwrap_or(0);
        let in_this_url = query::size_in_url(write.entry.id.as_str());
        match batches.last_mut() {
            Some(batch)
                if batch.len() < ROWS && bytes + size <= BYTES && in_url + in_this_url <= URL_BYTES =>
            {
                batch.push(write);
                (bytes, in_url) = (bytes + size, in_url + in_this_url);
            }
            _ => {
                batches.push(vec![write]);
                (bytes, in_url) = (size, in_this_url);
            }
        }
    }
    batches.reverse();
    batches
}

/// What follows from the failure of a batch.
enum Next<'a> {
    /// It fails for one entry, or for its size: parts may pass. The first is the last.
    Halves([Vec<Write<'a>>; 2]),
    Refused(Settled),
}

fn after(failure: Failure, mut batch: Vec<Write<'_>>) -> Result<Next<'_>, RemoteError> {
    let concerns_all = matches!(failure, Failure::Missing(Missing::Table | Missing::Column, _));
    let concerns_some = failure == Failure::StatementTimeout || failure.rejection().is_some();
    if batch.len() > 1 && !concerns_all && concerns_some {
        let rest = batch.split_off(batch.len() / 2);
        return Ok(Next::Halves([rest, batch]));
    }
    refused(&batch, failure).map(Next::Refused)
}
