//! Three-way merge, field by field.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Conflict, Resolution, last_write};
use crate::record::Fields;

pub(super) fn decide(conflict: &Conflict) -> Resolution {
    match (&conflict.local, &conflict.remote) {
        (Some(local), Some(remote)) => {
            let local_later = last_write::local_is_later(conflict);
            let base = conflict.base.clone().unwrap_or_default();
            Resolution::Merged(merge(&base, local, remote, local_later))
        }
        _ => last_write::decide(conflict),
    }
}

/// A field that is absent on a side counts as removed there, so removal merges like any other change.
fn merge(base: &Fields, local: &Fields, remote: &Fields, local_later: bool) -> Fields {
    let names: BTreeSet<&String> = local.keys().chain(remote.keys()).collect();
    let pick = |name: &String| -> Option<Value> {
        let (before, mine, theirs) = (base.get(name), local.get(name), remote.get(name));
        let take_mine = theirs == before || (mine != before && local_later);
        if take_mine { mine } else { theirs }.cloned()
    };
    names.into_iter().filter_map(|name| Some((name.clone(), pick(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fields;

    #[test]
    fn removals_merge_like_changes() {
        let base = fields([("kept", 1.into()), ("mine", 1.into()), ("theirs", 1.into())]);
        let local = fields([("kept", 1.into()), ("theirs", 1.into()), ("new", 2.into())]);
        let remote = fields([("kept", 1.into()), ("mine", 1.into())]);
        let expected = fields([("kept", 1.into()), ("new", 2.into())]);
        assert_eq!(merge(&base, &local, &remote, true), expected);
        assert_eq!(merge(&base, &local, &remote, false), expected);
    }
}
