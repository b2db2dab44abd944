//! What a campaign came to, for people.

use std::{collections::BTreeSet, fmt::Write};

use crate::{
    campaign::Results,
    tally::{Counts, Doing},
};

/// A table of what was done and what went wrong.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    let counts = &results.counts;
    let seconds = results.took.as_secs_f64();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{} seeds in {seconds:.0} s: {:.1} a second, {} failed",
        results.seeds,
        results.seeds as f64 / seconds,
        results.failed.len()
    );
    for (name, n) in &counts.done {
        let _ = writeln!(text, "  {name:<24}{n:>12}");
    }
    let _ = writeln!(text, "  {:<24}{:>12}", "faults", counts.all_faults());
    let _ = write!(text, "\n{:<26}", "faults while");
    for doing in Doing::ALL {
        let _ = write!(text, "{:>13}", name_of(doing));
    }
    let _ = writeln!(text, "{:>13}", "in all");
    for fault in faults(counts) {
        let _ = write!(text, "{fault:<26}");
        let of = |doing| counts.faults.get(&(fault, doing)).copied().unwrap_or(0);
        for doing in Doing::ALL {
            match of(doing) {
                0 => drop(write!(text, "{:>13}", "-")),
                n => drop(write!(text, "{n:>13}")),
            }
        }
        let _ = writeln!(text, "{:>13}", Doing::ALL.into_iter().map(of).sum::<u64>());
    }
    text
}

fn faults(counts: &Counts) -> BTreeSet<&'static str> {
    counts.faults.keys().map(|(fault, _)| *fault).collect()
}

fn name_of(doing: Doing) -> &'static str {
    match doing {
        Doing::Opening => "opening",
        Doing::Writing => "writing",
        Doing::Pushing => "pushing",
        Doing::Following => "following",
        Doing::CatchingUp => "catching up",
        Doing::Leaving => "leaving",
    }
}

/// What a seed does on average at the least, and what goes wrong: a campaign with less has shown nothing.
const AT_LEAST: [(&str, f64); 6] = [
    ("steps", 100.0),
    ("operations", 50.0),
    ("pushed", 10.0),
    ("conflicts", 3.0),
    ("resyncs", 0.3),
    ("logouts", 0.2),
];

/// What faults there have to be.
const FAULTS: [&str; 23] = [
    "answer lost",
    "clock set",
    "failed after the fact",
    "file locked",
    "file put back",
    "hint lost",
    "killed",
    "killed in a call",
    "offline",
    "power lost",
    "power lost in a call",
    "request late",
    "request lost",
    "request repeated",
    "server killed",
    "server lost power",
    "server restored",
    "throttled",
    "token expired",
    "too large",
    "unavailable",
    "disk full",
    "disk broken",
];

/// What was done too little of.
pub fn too_little(results: &Results) -> Vec<String> {
    /// Below this many seeds chance decides.
    const ENOUGH: u64 = 200;
    if results.seeds < ENOUGH {
        return Vec::new();
    }
    let counts = &results.counts;
    let seeds = results.seeds as f64;
    let done = AT_LEAST.iter().filter(|(name, least)| (counts.of(name) as f64) < least * seeds);
    let mut missing: Vec<String> =
        done.map(|(name, least)| format!("{name}: {} of {:.0}", counts.of(name), least * seeds)).collect();
    let there = faults(counts);
    missing.extend(FAULTS.iter().filter(|name| !there.contains(*name)).map(|name| format!("no {name}")));
    if (counts.all_faults() as f64) < 15.0 * seeds {
        missing.push(format!("faults: {} of {:.0}", counts.all_faults(), 15.0 * seeds));
    }
    missing
}
