//! A function as a [`Resolver`].

use std::fmt;

use async_trait::async_trait;

use super::{Conflict, Resolution, Resolver};

pub(super) struct Function<F>(pub(super) F);

impl<F> fmt::Debug for Function<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

#[async_trait]
impl<F: Fn(&Conflict) -> Resolution + Send + Sync + 'static> Resolver for Function<F> {
    async fn resolve(&self, conflict: &Conflict) -> Resolution {
        (self.0)(conflict)
    }
}
