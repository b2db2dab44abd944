//! A Supabase project as a backend.

#[allow(dead_code)]
mod client;
#[allow(dead_code)]
mod error;
