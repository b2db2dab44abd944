//! Supabase as a backend.

#[cfg_attr(not(test), expect(dead_code, reason = "the remote that listens is built on it"))]
pub(crate) mod realtime;
