//! What `scripts/testbed/env` says.

use std::env;

/// The value of a variable that the shared services are announced in.
pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: this test runs beside shared services. Run it through scripts/test, or start them as \
             scripts/testbed/README.md says"
        )
    })
}
