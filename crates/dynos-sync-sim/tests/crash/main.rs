//! A device's database is killed at every call to the disk, loses its power there, or finds the disk full or broken: what was
//! under way is done whole or not at all, and what was acknowledged is there.
//!
//! `DYNOS_CRASH_PAIRS=1` adds a second crash at every call of the recovery from each of the first ones.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod scenarios;
mod trial;

use scenarios::Scenario;
use trial::Trial;

macro_rules! scenarios {
    ($($name:ident)+) => {
        mod killed {
            $(#[test] fn $name() { super::killed(&super::scenarios::$name()); })+
        }
        mod power_lost {
            $(#[test] fn $name() { super::power_lost(&super::scenarios::$name()); })+
        }
        mod disk_fails {
            $(#[test] fn $name() { super::disk_fails(&super::scenarios::$name()); })+
        }
    };
}

scenarios! {
    write
    patch
    remove
    write_many
    write_over_two_tables
    enqueue
    capture
    collect
    open_anew
    migrate
    adopt
    remove_table
    mark_sent
    settle
    postpone
    bury
    revive
    discard
    apply_page
    resolve_conflict
    undo_conflict
    restart
    end_resync
    end_restore
    rename
    logout
}

/// The process is gone, the machine is not.
fn killed(scenario: &Scenario) {
    let trial = Trial::new(scenario);
    for call in 0.. {
        if !trial.kill(call) {
            return;
        }
    }
}

fn power_lost(scenario: &Scenario) {
    let trial = Trial::new(scenario);
    for call in 0.. {
        let mut met = false;
        for seed in 0..6 {
            met |= trial.lose_power(call, seed);
        }
        if !met {
            return;
        }
    }
}

/// The disk is full, or answers errors, for one call or for all that follow; then it is well again.
fn disk_fails(scenario: &Scenario) {
    let trial = Trial::new(scenario);
    for call in 0.. {
        let met = [1, u64::MAX / 2].map(|calls| trial.fill(call, calls) | trial.break_disk(call, calls));
        if met == [false, false] {
            return;
        }
    }
}
