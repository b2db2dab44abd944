//! Runs a piece of the product again and again, each time with its threads and tasks in another order (docs/testing.md).
//!
//! A run is on one thread of the machine: whoever comes to a lock, a channel or an await may have to let others go on first, and which of
//! them is drawn. So a run can be repeated, and where all wait for each other it fails at once.

use std::{env, str::FromStr};

use shuttle::{
    Config, MaxSteps, Runner,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler},
};

/// How many orders are drawn in which, now and then, somebody else goes on.
const CHANGES: usize = 3;

/// Runs `run` in `schedules` orders; in `DYNOS_SCHEDULES` many, where that is set, and in others for each `DYNOS_SCHEDULES_SEED`. With
/// `DYNOS_SCHEDULE`, only in the one in which it has failed.
///
/// In half of them all are equal, and anybody may go on at any place. In the other half one after the other goes on as far as it can, but
/// for a few places: that finds what depends on somebody being held up for long.
pub fn explore(schedules: usize, run: impl Fn() + Send + Sync + Copy + 'static) {
    let schedules = variable("DYNOS_SCHEDULES").unwrap_or(schedules);
    let seed = variable("DYNOS_SCHEDULES_SEED").unwrap_or(1);
    if let Ok(failed) = env::var("DYNOS_SCHEDULE") {
        runner(ReplayScheduler::new_from_encoded(&failed)).run(run);
        return;
    }
    runner(RandomScheduler::new_from_seed(seed, schedules.div_ceil(2))).run(run);
    runner(PctScheduler::new_from_seed(seed, CHANGES, schedules.div_ceil(2))).run(run);
}

fn runner<S: Scheduler + 'static>(scheduler: S) -> Runner<S> {
    let mut config = Config::new();
    // SQLite runs on these stacks.
    config.stack_size = 2 * 1024 * 1024;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.silence_warnings = true;
    Runner::new(scheduler, config)
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}
