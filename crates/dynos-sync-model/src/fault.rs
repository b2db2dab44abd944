//! What must never happen.

/// A step that breaks an invariant. A world in which one was taken goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An entry took effect after a later one of its record, or a second time (invariants 2 and 3).
    Order,
    /// A change was overwritten that the author had not seen (invariants 6 and 7).
    Unseen,
    /// A deleted record came back by an edit whose author had not seen the deletion (invariant 6).
    Resurrection,
    /// An edit was acknowledged that has no effect (invariant 1).
    Acknowledged,
    /// A change that was made on top of one's own was met as a conflict with it (invariant 7).
    OwnConflict,
    /// An edit was refused although nothing is wrong with it (invariant 1).
    Refused,
    /// Of a transaction a part took effect, and another did not.
    Torn,
    /// An answer did not follow the protocol, or a call failed that should not.
    Protocol,
}
