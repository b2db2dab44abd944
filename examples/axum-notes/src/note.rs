//! What is kept.

use dynos_sync::Record;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) id: String,
    pub(crate) text: String,
}

impl Record for Note {
    const TABLE: &'static str = "notes";
}
