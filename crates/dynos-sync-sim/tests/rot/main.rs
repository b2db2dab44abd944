//! A device's file is damaged where it lies: bits flip, pages are lost or swapped, the log is cut, foreign or old. Whatever is
//! read of it then, nothing panics, nothing is sent that nobody wrote, nothing goes under another's name, and an edit that can
//! still be read is not lost in silence.
//!
//! `DYNOS_ROT=n` tries n times as many flipped bits; `DYNOS_ROT=all` every bit there is.

#![allow(clippy::unwrap_used, reason = "tests may panic")]
#![allow(clippy::print_stdout, reason = "an exhaustive run says how much it did")]

mod copies;
mod device;
mod life;
mod log;
mod pages;
mod server;
