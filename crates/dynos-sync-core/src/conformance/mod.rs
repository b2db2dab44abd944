//! The conformance suites: what every [`Replica`](crate::Replica) and every [`Remote`](crate::Remote) must do,
//! as tests that anybody can run against an adapter of their own.
//!
//! * [`replica_conformance!`](crate::replica_conformance) runs the suite of [`replica`];
//! * [`remote_conformance!`](crate::remote_conformance) runs the suite of [`remote`].
//!
//! Each makes one `#[test]` a case, and each test makes a fixture of its own, so that the cases may run side by
//! side. The cases see an adapter through its seam only, and use document tables, which every adapter has.
#![expect(
    clippy::unwrap_used,
    reason = "a case that meets an unexpected error fails by panicking, as tests do"
)]

pub mod hostile;
pub mod remote;
pub mod replica;

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::{self, Thread},
};

use serde_json::Value;

use crate::{entry::Edit, record::Fields};

/// Runs a future to its end on this thread, which sleeps meanwhile. It has no reactor: a future that needs one
/// has to be run by its own runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn object(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        other => panic!("BUG: a case's record is not an object: {other}"),
    }
}

fn some(value: Value) -> Option<Fields> {
    Some(object(value))
}

fn upsert(value: Value) -> Edit {
    Edit::Upsert(object(value))
}

fn replace(value: Value) -> Edit {
    Edit::Replace(object(value))
}

fn patch(value: Value) -> Edit {
    Edit::Patch(object(value))
}

/// Makes a test of each case of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($suite:ident $attributes:tt $fixture:expr; $($theme:ident { $($case:ident)* })*) => {
        $(mod $theme {
            #[allow(unused_imports)]
            use super::*;
            $($crate::conformance_case!($suite $theme $case $attributes $fixture);)*
        })*
        $crate::conformance_exceptions!($suite $attributes $fixture; $($($case)*)*);
    };
}

/// Makes a test of one case.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_case {
    (remote $theme:ident $case:ident ($(#[$attribute:meta])*) $fixture:expr) => {
        $(#[$attribute])*
        #[test]
        fn $case() {
            use $crate::conformance::remote;
            let fixture = $fixture;
            remote::judge(&fixture, stringify!($case), Box::pin(remote::$theme::$case(&fixture)));
        }
    };
    ($suite:ident $theme:ident $case:ident ($(#[$attribute:meta])*) $fixture:expr) => {
        $(#[$attribute])*
        #[test]
        fn $case() {
            use $crate::conformance::$suite::Fixture;
            let fixture = $fixture;
            fixture.run(Box::pin($crate::conformance::$suite::$theme::$case(&fixture)));
        }
    };
}

/// Makes a test of the exceptions that a remote claims.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_exceptions {
    (replica $($rest:tt)*) => {};
    (remote ($(#[$attribute:meta])*) $fixture:expr; $($case:ident)*) => {
        $(#[$attribute])*
        #[test]
        fn every_exception_is_a_case() {
            $crate::conformance::remote::judge_exceptions(&$fixture, &[$(stringify!($case)),*]);
        }
    };
}

#[cfg(test)]
mod tests {
    /// The macros name the cases once more; one that they leave out would never run.
    #[test]
    fn every_case_is_listed() {
        let replica = [
            include_str!("replica/writes.rs"),
            include_str!("replica/settling.rs"),
            include_str!("replica/sending.rs"),
            include_str!("replica/refusals.rs"),
            include_str!("replica/conflicts.rs"),
            include_str!("replica/staleness.rs"),
            include_str!("replica/pulling.rs"),
            include_str!("replica/tables.rs"),
            include_str!("replica/session.rs"),
            include_str!("replica/looking.rs"),
            include_str!("replica/transactions.rs"),
            include_str!("replica/values.rs"),
        ];
        let remote = [
            include_str!("remote/tables.rs"),
            include_str!("remote/pushing.rs"),
            include_str!("remote/repeats.rs"),
            include_str!("remote/comparing.rs"),
            include_str!("remote/pulling.rs"),
            include_str!("remote/isolation.rs"),
            include_str!("remote/history.rs"),
            include_str!("remote/transactions.rs"),
            include_str!("remote/values.rs"),
        ];
        for (list, files) in
            [(include_str!("replica/mod.rs"), &replica[..]), (include_str!("remote/mod.rs"), &remote[..])]
        {
            let (_, list) = list.split_once("macro_rules!").unwrap();
            let listed = |case: &str| list.split_whitespace().any(|word| word == case);
            for line in files.iter().flat_map(|file| file.lines()) {
                if let Some(case) = line.strip_prefix("pub async fn ").and_then(|rest| rest.split('(').next())
                {
                    assert!(listed(case), "{case} is not in its suite's macro");
                }
            }
        }
    }
}
