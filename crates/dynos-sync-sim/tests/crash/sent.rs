//! What a device hands out as sent is not forgotten, whatever happened before: the server may have it from then on.

use dynos_sync_core::Entry;
use dynos_sync_sim::disk::{Disk, Fault, Loss};
use dynos_sync_sqlite::{SqliteReplica, Synchronous};

use crate::{
    scenarios::{due, mark_sent},
    trial::{open, open_earlier},
};

fn sent(replica: &SqliteReplica) -> Vec<Entry> {
    due(replica).unwrap().into_iter().filter(|entry| entry.sent.is_some()).collect()
}

/// The first process is killed at a call to the disk while it marks an entry as sent, a second one finds the mark in the
/// system's cache, and then the power fails. Answers whether there was such a call, and whether the second process had a mark.
fn killed_then_power_lost(call: u64, synchronous: Synchronous, seed: u64) -> (bool, bool) {
    let scenario = mark_sent();
    let disk = Disk::mount(format!("/sent/{}/{synchronous:?}/{call}/{seed}", std::process::id()));
    (scenario.prepare)(&disk);
    let first = open(&disk, synchronous).unwrap();
    disk.arm(call, Fault::Kill);
    let _ = (scenario.act)(&disk, &first);
    let met = disk.disarm();
    disk.kill();
    let second = open(&disk, synchronous).unwrap();
    let seen = sent(&second);
    disk.lose_power(&mut Loss::new(seed));
    if !seen.is_empty() {
        let left = sent(&open_earlier(&disk));
        assert_eq!(left, seen, "killed at call {call}, {synchronous:?}, seed {seed}");
    }
    disk.unmount();
    (met, !seen.is_empty())
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_durable_before_it_is_sent() {
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        let mut marks = 0;
        for call in 0.. {
            let tried = (0..6).map(|seed| killed_then_power_lost(call, synchronous, seed));
            let tried: Vec<_> = tried.collect();
            if !tried.iter().any(|(met, _)| *met) {
                break;
            }
            marks += tried.iter().filter(|(_, marked)| *marked).count();
        }
        assert!(marks > 0, "a mark was in the cache and not on the disk");
    }
}
