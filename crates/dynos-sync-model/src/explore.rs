//! Runs the checker over a variant.

use std::{
    fmt,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::{
    model::{Action, State},
    rules::Rules,
    variant::Variant,
    world::World,
};

/// What an exploration found.
#[derive(Debug)]
pub struct Explored {
    /// States reached, counting each way to them.
    pub states: usize,
    /// Different states.
    pub unique: usize,
    /// Steps to the farthest of them.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// How many properties were checked.
    pub properties: usize,
    /// Each property that does not hold, and a path to where it does not, step by step in words.
    pub broken: Vec<(&'static str, Vec<String>)>,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states, {} of them different, {} steps deep", self.states, self.unique, self.depth)?;
        for (property, path) in &self.broken {
            write!(f, "\nbroken: {property}\n{}", path.join("\n"))?;
        }
        Ok(())
    }
}

/// Explores all of a variant, or until a property is found broken.
pub fn explore(variant: Variant, rules: Rules, threads: usize, shortest: bool) -> Explored {
    let world = World::new(variant, rules);
    let properties = world.properties().len();
    let start = Instant::now();
    let builder = world.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    if shortest {
        finish(builder.spawn_bfs(), start, properties)
    } else {
        finish(builder.spawn_dfs(), start, properties)
    }
}

fn finish(checker: impl Checker<World>, start: Instant, properties: usize) -> Explored {
    let checker = checker.join();
    let time = start.elapsed();
    let world = checker.model();
    let broken = checker.discoveries().into_iter().map(|(name, path)| (name, words(world, path))).collect();
    Explored {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        time,
        properties,
        broken,
    }
}

fn words(world: &World, path: Path<State, Action>) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, (state, action)) in (1..).zip(path.into_vec()) {
        lines.extend(world.describe(&state));
        lines.extend(action.map(|action| format!("{number:>3}. {}", world.format_action(&action))));
    }
    lines
}
