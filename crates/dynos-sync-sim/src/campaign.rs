//! Many seeds, on all cores.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    tally::Counts,
    world::{self, Options, Report},
};

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// No new seed is begun after this time.
    pub time: Option<Duration>,
    /// How many seeds run at once.
    pub threads: usize,
    /// Every so many-th seed is run twice, and has to come out the same.
    pub twice: u64,
    /// Whether to end with the first seed that fails.
    pub stop: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Results {
    /// What was done, and what went wrong.
    pub counts: Counts,
    /// The seeds that failed.
    pub failed: Vec<(u64, Report)>,
    /// How many seeds have run.
    pub seeds: u64,
    /// How long it took.
    pub took: Duration,
}

/// A runtime for the server's store.
///
/// # Errors
/// Where the machine has no room for one.
pub fn runtime() -> std::io::Result<Arc<Runtime>> {
    Builder::new_current_thread().build().map(Arc::new)
}

impl Campaign {
    /// Runs. `progress` is told after each seed how many have run, and how many failed; and what came of this one if it did.
    ///
    /// # Errors
    /// Where the machine has no room for threads.
    pub fn run(
        &self,
        progress: impl Fn(u64, usize, Option<(u64, &Report)>) + Sync,
    ) -> std::io::Result<Results> {
        let start = Instant::now();
        let next = AtomicU64::new(0);
        let done = AtomicBool::new(false);
        let results = Mutex::new(Results::default());
        let runtimes: Vec<_> = (0..self.threads.max(1)).map(|_| runtime()).collect::<Result<_, _>>()?;
        thread::scope(|scope| {
            for runtime in &runtimes {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let late = self.time.is_some_and(|time| start.elapsed() >= time);
                        if n >= self.seeds || late || done.load(Ordering::Relaxed) {
                            return;
                        }
                        let report = self.one(self.from + n, runtime);
                        let failed = !report.violations.is_empty();
                        done.fetch_or(failed && self.stop, Ordering::Relaxed);
                        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                        results.counts.add(&report.counts);
                        results.seeds += 1;
                        let failing = failed.then_some((self.from + n, &report));
                        progress(results.seeds, results.failed.len() + usize::from(failed), failing);
                        if failed {
                            results.failed.push((self.from + n, report));
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.failed.sort_by_key(|(seed, _)| *seed);
        results.took = start.elapsed();
        Ok(results)
    }

    fn one(&self, seed: u64, runtime: &Arc<Runtime>) -> Report {
        let mut report = world::run(seed, runtime, &Options::default());
        if self.twice > 0 && seed.is_multiple_of(self.twice) {
            let again = world::run(seed, runtime, &Options::default());
            report.counts.add_done("run twice", 1);
            if again.hash != report.hash {
                let found = format!("{:016x} and then {:016x}", report.hash, again.hash);
                report.violations.push(world::violation("repeatable", found));
            }
        }
        report
    }
}
