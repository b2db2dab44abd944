//! What is kept.

use dynos_sync::Record;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) done: bool,
}

impl Record for Task {
    const TABLE: &'static str = "tasks";
}
