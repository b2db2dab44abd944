//! Seeds that found something once. What they found is kept as a defect to order, too: a seed's world changes with the simulator.

use dynos_sync_sim::{
    campaign,
    world::{self, Options},
};

const SEEDS: [(u64, &str); 7] = [
    (
        804,
        "a document that was pushed, replaced and adopted again was merged by the server with what the device no longer had",
    ),
    (
        2746,
        "an entry that a killed process had marked as sent, without syncing, was sent by the next one and forgotten when the power failed",
    ),
    (
        83,
        "a device that had lost its power at NORMAL, or was put back to an older copy, was not recognised once it had numbered new edits",
    ),
    (
        4363,
        "an engine whose clock was ahead while a call failed, and was put right before the next one, waited until the clock was there again",
    ),
    (
        1443,
        "an engine whose clock was put right while a call was under way waited, once that had succeeded, until the clock was there again",
    ),
    (
        4767,
        "a record that was pushed before the first pull had begun, and deleted and purged by then, stayed on its device",
    ),
    (
        207_830_015_057,
        "a walk after a restore that a purge made expire went on as one after a purge, and deleted what the server had lost",
    ),
];

#[test]
fn seeds_that_found_something_find_nothing_any_more() {
    let runtime = campaign::runtime().expect("a runtime");
    for (seed, found) in SEEDS {
        let report = world::run(seed, &runtime, &Options::default());
        assert!(report.violations.is_empty(), "{found}: {:?}", report.violations);
    }
}
