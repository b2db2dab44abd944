//! A device's database is killed at every call to the disk, loses its power there, or finds the disk full or broken: what was
//! under way is done whole or not at all, and what was acknowledged is there.
//!
//! `DYNOS_CRASH_PAIRS=1` adds a second crash at every call of the recovery from each of the first ones.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod scenarios;
mod sent;
mod trial;

use dynos_sync_sim::disk::ReadOnly;
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
        mod in_use {
            $(#[test] fn $name() { super::in_use(&super::scenarios::$name()); })+
        }
        mod read_only {
            $(#[test] fn $name() { super::read_only(&super::scenarios::$name()); })+
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
    upgrade
    remove_table
    mark_sent
    settle
    postpone
    bury
    set_aside
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

/// Other processes hold the locks for longer than anybody waits, from any one on or only that one; one writes, one reads.
fn in_use(scenario: &Scenario) {
    let trial = Trial::new(scenario);
    for call in 0.. {
        let met = [1, u64::MAX / 2].map(|calls| trial.hold(call, calls));
        if met == [false, false] {
            break;
        }
    }
    trial.hold_the_writers_lock();
    if !scenario.makes_the_file {
        trial.hold_a_readers_lock();
    }
}

/// The file, its folder or the disk is read-only, and then no more.
fn read_only(scenario: &Scenario) {
    let trial = Trial::new(scenario);
    if !scenario.makes_the_file {
        trial.forbid(ReadOnly::Database);
    }
    trial.forbid(ReadOnly::Folder);
    trial.forbid(ReadOnly::Disk);
}
