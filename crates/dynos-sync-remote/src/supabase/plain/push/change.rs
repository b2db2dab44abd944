//! Rows that there are: written or deleted where nobody else has written them since.

use dynos_sync_core::{Operation, RemoteError};
use futures_util::{FutureExt, future::try_join_all};
use reqwest::Method;

use super::{Bulk, Settled, Target, Write, refused};
use crate::supabase::{
    error::Failure,
    plain::{
        Plain, query,
        row::{self, DELETED_AT, Row},
        time::Micros,
    },
};

/// Requests at once. Rows with a condition of their own take a request of their own.
const AT_ONCE: usize = 8;

impl Plain {
    /// Writes rows of different records.
    pub(super) async fn change(
        &self,
        to: Target<'_>,
        writes: Vec<Write<'_>>,
    ) -> Result<Settled, RemoteError> {
        let (mut settled, mut untouched) = (Settled::new(), Vec::new());
        for some in writes.chunks(AT_ONCE) {
            let answers = try_join_all(some.iter().map(|write| self.change_one(to, *write).boxed())).await?;
            for (write, answer) in some.iter().zip(answers) {
                match answer {
                    Ok(Some(row)) => settled.push(self.applied(to, write, row)),
                    Ok(None) => untouched.push(*write),
                    Err(failure) => {
                        self.learn(to, &failure);
                        settled.extend(refused(&[*write], failure)?);
                    }
                }
            }
        }
        settled.extend(self.verdicts(to, untouched).await?);
        Ok(settled)
    }

    /// The row as it is then; none where no row fits the condition.
    async fn change_one(
        &self,
        to: Target<'_>,
        write: Write<'_>,
    ) -> Result<Result<Option<Row>, Failure>, RemoteError> {
        let columns = row::columns(write.entry, to.soft_delete);
        let request = query::write(&self.client, Method::PATCH, to.table, &columns)?;
        let request = query::of_ids(request, [write.id().as_str()]);
        let request = query::until(request, self.limit(to, &write));
        let request = match write.entry.op {
            Operation::Patch if to.soft_delete => request.query(DELETED_AT, "is.null"),
            _ => request,
        };
        let rows = self.client.exchange::<Vec<Row>>(&request).await?;
        Ok(rows.map(|rows| rows.into_iter().next()))
    }

    /// Deletes rows of different records, those with one condition together.
    pub(super) async fn delete(
        &self,
        to: Target<'_>,
        writes: Vec<Write<'_>>,
    ) -> Result<Settled, RemoteError> {
        let mut by_limit: Vec<(Micros, Vec<Write<'_>>)> = Vec::new();
        for write in writes {
            let limit = self.limit(to, &write);
            match by_limit.iter_mut().find(|(until, _)| *until == limit) {
                Some((_, together)) => together.push(write),
                None => by_limit.push((limit, vec![write])),
            }
        }
        let (mut settled, mut untouched) = (Settled::new(), Vec::new());
        for some in by_limit.chunks(AT_ONCE) {
            let sent = some.iter().map(|(until, together)| {
                self.bulk(to, Bulk::Delete { until: *until }, together.clone()).boxed()
            });
            for (done, rest) in try_join_all(sent).await? {
                settled.extend(done);
                untouched.extend(rest);
            }
        }
        settled.extend(self.verdicts(to, untouched).await?);
        Ok(settled)
    }
}
