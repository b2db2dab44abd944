//! Makes a failing run small: kinds of steps, then single steps, then the wire's troubles are left out, as long as the same
//! checker still complains. (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.)

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::{
    swarm::Step,
    world::{self, Options, Report},
};

/// The most runs.
const BUDGET: usize = 400;

/// Shrinks. Answers the options with which the seed still fails, and how it does.
pub fn shrink(seed: u64, runtime: &Arc<Runtime>, failed: Report) -> (Options, Report) {
    let Some(checker) = failed.violations.first().map(|violation| violation.checker) else {
        return (Options::default(), failed);
    };
    let mut shrinker =
        Shrinker { seed, runtime, checker, best: Options::default(), report: failed, left: BUDGET };
    shrinker.run();
    (shrinker.best, shrinker.report)
}

struct Shrinker<'a> {
    seed: u64,
    runtime: &'a Arc<Runtime>,
    checker: &'static str,
    best: Options,
    report: Report,
    left: usize,
}

impl Shrinker<'_> {
    fn run(&mut self) {
        let steps = self.report.steps;
        self.cut_the_end(steps);
        for step in Step::all() {
            self.attempt(|options| options.without_kinds.push(step));
        }
        self.attempt(|options| options.calm = true);
        self.leave_out_steps();
    }

    /// Whether it still fails with a change, which is kept then.
    fn attempt(&mut self, change: impl FnOnce(&mut Options)) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let mut options = self.best.clone();
        change(&mut options);
        let report = world::run(self.seed, self.runtime, &options);
        let fails = report.violations.first().is_some_and(|violation| violation.checker == self.checker);
        if fails {
            (self.best, self.report) = (options, report);
        }
        fails
    }

    fn cut_the_end(&mut self, steps: u32) {
        let (mut low, mut high) = (0, steps);
        while low < high {
            let middle = (low + high) / 2;
            match self.attempt(|options| options.steps = Some(middle)) {
                true => high = middle,
                false => low = middle + 1,
            }
        }
    }

    fn leave_out_steps(&mut self) {
        let all = self.best.steps.unwrap_or(self.report.steps);
        let mut size = all.div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < all {
                self.attempt(|options| options.without.extend(from..(from + size).min(all)));
                from += size;
            }
            size /= 2;
        }
        self.best.without.sort_unstable();
        self.best.without.dedup();
    }
}
