//! The local row gate: a user's device neither stores nor sends rows that name another owner.

use serde_json::Value;

use crate::record::Fields;

/// Compares a record's owner columns with the device's user.
///
/// It is a guard against mistakes on the device. What a user may read and write is decided by the server.
///
/// ```
/// use dynos_sync_core::{Ownership, fields};
/// let gate = Ownership::new(Some("ada"), ["user_id", "owner_id"]);
/// assert!(gate.check(&fields([("user_id", "ada".into())])).is_ok());
/// assert!(gate.check(&fields([("title", "no owner named".into())])).is_ok());
/// assert_eq!(gate.check(&fields([("owner_id", "bob".into())])).unwrap_err().row_owner, "bob");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    user: Option<String>,
    columns: Vec<String>,
}

/// A record that names an owner other than the device's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The column that names the other owner.
    pub column: String,
    /// The owner that it names.
    pub row_owner: String,
}

impl Ownership {
    /// The columns that are looked at where none are configured.
    pub const DEFAULT_COLUMNS: [&'static str; 2] = ["user_id", "owner_id"];

    /// A gate for `user`. Without a user everything passes.
    pub fn new<S: Into<String>>(user: Option<&str>, columns: impl IntoIterator<Item = S>) -> Self {
        Self { user: user.map(str::to_owned), columns: columns.into_iter().map(Into::into).collect() }
    }

    /// Checks every owner column that the fields carry. Null and absent columns name nobody.
    ///
    /// # Errors
    /// [`Violation`] for the first column that names somebody else.
    pub fn check(&self, fields: &Fields) -> Result<(), Violation> {
        let Some(user) = &self.user else { return Ok(()) };
        for column in &self.columns {
            let owner = match fields.get(column) {
                None | Some(Value::Null) => continue,
                Some(Value::String(owner)) => owner.clone(),
                Some(other) => other.to_string(),
            };
            if owner != *user {
                return Err(Violation { column: column.clone(), row_owner: owner });
            }
        }
        Ok(())
    }
}
