//! Conflicts: a pulled change of a record that has pending local entries, and the strategies that decide them.

mod function;
mod last_write;
mod merge;

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{clock::Millis, ids::RecordKey, record::Fields};

/// A record changed on both sides. `None` stands for a record that does not exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// The record.
    pub key: RecordKey,
    /// What both sides started from: the record before its first pending entry.
    pub base: Option<Fields>,
    /// The record on this device.
    pub local: Option<Fields>,
    /// The record on the server.
    pub remote: Option<Fields>,
    /// The time of the newest local edit.
    pub local_at: Millis,
    /// The time of the remote edit.
    pub remote_at: Millis,
}

/// How a conflict ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// The version on this device stands, and is sent.
    KeepLocal,
    /// The server's version stands; the pending entries are dropped.
    KeepRemote,
    /// This record stands, and is sent.
    Merged(Fields),
    /// The record is deleted everywhere.
    Delete,
}

/// What [`Strategy::LastWriteWins`] decides.
pub fn last_write_wins(conflict: &Conflict) -> Resolution {
    Strategy::LastWriteWins.decide(conflict)
}

/// The record's value once the conflict is resolved so.
pub fn outcome(conflict: &Conflict, resolution: &Resolution) -> Option<Fields> {
    match resolution {
        Resolution::KeepLocal => conflict.local.clone(),
        Resolution::KeepRemote => conflict.remote.clone(),
        Resolution::Merged(fields) => Some(fields.clone()),
        Resolution::Delete => None,
    }
}

/// An application's own way of resolving conflicts. It may be slow, and may ask a person: it runs outside of
/// any transaction, and its answer is used only if the record has not changed meanwhile. It may read and write through the
/// engine, but must not wait for a sync, a drain or a pull: they wait for the resolver. If it panics, last-write-wins decides.
#[async_trait]
pub trait Resolver: Debug + Send + Sync + 'static {
    /// Decides a conflict. All devices must decide alike, or they will take turns in changing the record.
    async fn resolve(&self, conflict: &Conflict) -> Resolution;
}

/// How conflicts are decided. The same on every device of an application.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// The later `updated_at` (RFC 3339, or integer milliseconds) where both versions carry one, else the later
    /// edit; where equal or unreadable, the server's.
    #[default]
    LastWriteWins,
    /// The server's version; pending entries of the record are dropped.
    ServerWins,
    /// This device's version.
    ClientWins,
    /// Field by field: what changed on one side only is taken from there; what changed on both, from the later.
    Merge,
    /// The application decides.
    Custom(Arc<dyn Resolver>),
}

/// The name of a [`Strategy`], as events and the conflict journal carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StrategyName {
    /// [`Strategy::LastWriteWins`]
    LastWriteWins,
    /// [`Strategy::ServerWins`]
    ServerWins,
    /// [`Strategy::ClientWins`]
    ClientWins,
    /// [`Strategy::Merge`]
    Merge,
    /// [`Strategy::Custom`]
    Custom,
}

impl StrategyName {
    /// The name in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LastWriteWins => "last-write-wins",
            Self::ServerWins => "server-wins",
            Self::ClientWins => "client-wins",
            Self::Merge => "merge",
            Self::Custom => "custom",
        }
    }
}

impl Strategy {
    /// A strategy of a function that answers at once. What takes its time, or asks a person, is a [`Resolver`].
    ///
    /// ```
    /// use dynos_sync_core::conflict::{Resolution, Strategy};
    ///
    /// // A record that was closed on either side stays closed.
    /// let strategy = Strategy::custom(|conflict| {
    ///     let is_closed = conflict.remote.as_ref().is_some_and(|record| record["closed"] == true);
    ///     if is_closed { Resolution::KeepRemote } else { Resolution::KeepLocal }
    /// });
    /// assert_eq!(strategy.name().as_str(), "custom");
    /// ```
    pub fn custom(decide: impl Fn(&Conflict) -> Resolution + Send + Sync + 'static) -> Self {
        Self::Custom(Arc::new(function::Function(decide)))
    }

    /// The strategy's name.
    pub fn name(&self) -> StrategyName {
        match self {
            Self::LastWriteWins => StrategyName::LastWriteWins,
            Self::ServerWins => StrategyName::ServerWins,
            Self::ClientWins => StrategyName::ClientWins,
            Self::Merge => StrategyName::Merge,
            Self::Custom(_) => StrategyName::Custom,
        }
    }

    /// Decides a conflict.
    pub async fn resolve(&self, conflict: &Conflict) -> Resolution {
        match self {
            Self::Custom(resolver) => resolver.resolve(conflict).await,
            built_in => built_in.decide(conflict),
        }
    }

    /// The built-in strategies. A pending delete wins over a remote update, whichever of them is chosen: who
    /// deletes a record means all of it.
    fn decide(&self, conflict: &Conflict) -> Resolution {
        if conflict.local.is_none() && conflict.remote.is_some() {
            return Resolution::KeepLocal;
        }
        match self {
            Self::ServerWins => Resolution::KeepRemote,
            Self::ClientWins => Resolution::KeepLocal,
            Self::Merge => merge::decide(conflict),
            Self::LastWriteWins | Self::Custom(_) => last_write::decide(conflict),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fields;

    fn conflict(
        local: Option<Fields>,
        remote: Option<Fields>,
        local_at: Millis,
        remote_at: Millis,
    ) -> Conflict {
        let key = RecordKey::new("t", "1").unwrap();
        let base = Some(fields([("a", 0.into()), ("b", 0.into())]));
        Conflict { key, base, local, remote, local_at, remote_at }
    }

    fn ab(a: i32, b: i32) -> Option<Fields> {
        Some(fields([("a", a.into()), ("b", b.into())]))
    }

    fn outcomes(conflict: &Conflict) -> [Option<Fields>; 4] {
        [Strategy::LastWriteWins, Strategy::ServerWins, Strategy::ClientWins, Strategy::Merge]
            .map(|strategy| outcome(conflict, &strategy.decide(conflict)))
    }

    #[test]
    fn both_changed_the_later_edit_decides() {
        assert_eq!(outcomes(&conflict(ab(1, 0), ab(2, 0), 20, 10)), [ab(1, 0), ab(2, 0), ab(1, 0), ab(1, 0)]);
        assert_eq!(outcomes(&conflict(ab(1, 0), ab(2, 0), 10, 20)), [ab(2, 0), ab(2, 0), ab(1, 0), ab(2, 0)]);
    }

    #[test]
    fn a_tie_is_the_servers() {
        assert_eq!(outcomes(&conflict(ab(1, 0), ab(2, 0), 10, 10)), [ab(2, 0), ab(2, 0), ab(1, 0), ab(2, 0)]);
    }

    #[test]
    fn merge_takes_each_field_from_the_side_that_changed_it() {
        for (local_at, remote_at) in [(10, 20), (20, 10)] {
            let both = conflict(ab(1, 0), ab(0, 2), local_at, remote_at);
            assert_eq!(outcomes(&both)[3], ab(1, 2));
        }
    }

    #[test]
    fn a_pending_delete_wins_over_a_remote_update() {
        assert_eq!(outcomes(&conflict(None, ab(2, 2), 10, 20)), [None, None, None, None]);
    }

    #[test]
    fn a_remote_delete_follows_the_strategy() {
        assert_eq!(outcomes(&conflict(ab(1, 0), None, 20, 10)), [ab(1, 0), None, ab(1, 0), ab(1, 0)]);
        assert_eq!(outcomes(&conflict(ab(1, 0), None, 10, 20)), [None, None, ab(1, 0), None]);
    }

    #[test]
    fn a_strategys_name_is_as_the_journal_has_it() {
        for strategy in [Strategy::LastWriteWins, Strategy::ServerWins, Strategy::ClientWins, Strategy::Merge]
        {
            let name = strategy.name();
            assert_eq!(serde_json::json!(name), name.as_str());
        }
    }
}
