//! Why a record has not synced, whether what is kept is sound, and what may be shown to somebody else of it.
//!
//! * [`Account`]: what a replica keeps of one record, as it stands. [`Replica::account`](crate::Replica::account) answers it.
//! * [`Explanation`]: what that means, and what to do: from an account, the state of the replica, and what an engine remembers
//!   ([`Recent`]).
//! * [`Inspection`]: what is wrong with a database ([`Finding`]), and what there is in it, counted ([`Survey`]).
//!   [`Replica::inspect`](crate::Replica::inspect) answers it.
//! * [`support_bundle`]: both for somebody who is not to see the user's data.
//!
//! Looking changes nothing.

mod account;
mod bundle;
mod explain;
mod inspect;
mod scrub;
mod standing;

pub(crate) use account::of_record;
pub use account::{Account, Noted};
pub use bundle::{Bundled, Names, support_bundle};
pub use explain::{Conclusion, Explanation, Failed, Local, Recent};
pub(crate) use inspect::of_replica;
pub use inspect::{Depth, Finding, Inspection, Level, Survey, TableSurvey};
pub use scrub::scrub;
pub use standing::standing;
