//! One connection after the other.

use dynos_sync_core::{TableName, plan::backoff::Backoff};

use super::{
    Client,
    outbox::Outbox,
    session::{Ended, Failure},
};
use crate::token::Secret;

impl Client {
    /// Listens for ever: what ends is followed by a pause and a new connection.
    pub(super) async fn follow(&self, tables: &[TableName], outbox: &mut Outbox) {
        let backoff = Backoff { exponential: true, cap: self.timing.longest_pause };
        let mut failures = 0_u32;
        let mut refused: Option<Secret> = None;
        loop {
            let Ended { failure, token, lasted } = self.listen(tables, outbox).await;
            failures = if lasted { 1 } else { failures.saturating_add(1) };
            if matches!(failure, Failure::Refused(_)) && token != refused {
                // If it is for the token, the pull renews it. Once a token: a refusal of another kind stays.
                outbox.everything();
                refused = token;
            }
            let pause = backoff.pause(failures, random());
            tracing::debug!(%failure, ?pause, "no live hints");
            let resumed = tokio::time::sleep(pause);
            tokio::pin!(resumed);
            loop {
                tokio::select! {
                    () = &mut resumed => break,
                    () = outbox.deliver() => {}
                }
            }
        }
    }
}

/// Without a source of randomness the pauses are the longest: only devices that were cut off together meet again.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}
