//! What is kept, and where it comes from.

use dynos_sync::{Record, core::Millis, new_id};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(crate) struct Reading {
    id: String,
    /// When, in milliseconds since 1970.
    at: Millis,
    celsius: f64,
}

impl Record for Reading {
    const TABLE: &'static str = "readings";
}

/// Reads the sensor; this one is an invented day, coldest at midnight.
pub(crate) fn read(at: Millis) -> Reading {
    const DAY: f64 = 24.0 * 60.0 * 60.0 * 1000.0;
    let time_of_day = at as f64 / DAY * std::f64::consts::TAU;
    Reading { id: new_id(), at, celsius: 15.0 - 5.0 * time_of_day.cos() }
}
