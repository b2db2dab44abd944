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

/// The first process is killed while it marks an entry as sent, a second one finds the mark in the system's cache, and then the
/// power fails.
#[test]
fn what_a_killed_process_left_in_the_cache_is_durable_before_it_is_sent() {
    let scenario = mark_sent();
    let mut handed_out = 0;
    for synchronous in [Synchronous::Full, Synchronous::Normal] {
        for call in 0.. {
            let disk = Disk::mount(format!("/sent/{}/{synchronous:?}/{call}", std::process::id()));
            (scenario.prepare)(&disk);
            let first = open(&disk, synchronous).unwrap();
            disk.arm(call, Fault::Kill);
            drop((scenario.act)(&disk, &first));
            let met = disk.disarm();
            disk.kill();
            let second = open(&disk, synchronous).unwrap();
            let seen = sent(&second);
            disk.lose_power(&mut Loss::everything());
            let replica = open_earlier(&disk);
            if !seen.is_empty() {
                assert_eq!(sent(&replica), seen, "killed at call {call}, {synchronous:?}");
            }
            handed_out += usize::from(met && !seen.is_empty());
            disk.unmount();
            if !met {
                break;
            }
        }
    }
    assert!(handed_out > 0, "a mark was in the cache and not on the disk");
}
