//! What the state of a replica tells of itself.

use super::{Finding, Level};
use crate::{
    clock::Millis,
    replica::{Phase, State, TableState},
};

/// What is good to know of a replica's state, and what somebody has to decide.
pub fn standing(state: &State, now: Millis) -> Vec<Finding> {
    let whole = [dead_letters(state), quarantine(state), clock(state, now), server(state)];
    let tables = state.tables.iter().filter_map(walk);
    whole.into_iter().flatten().chain(tables).collect()
}

fn dead_letters(state: &State) -> Option<Finding> {
    let problem = format!("{} edits were refused for good, and wait for a decision", state.dead_letters);
    let remedy = "list the dead letters; take them up or discard them";
    (state.dead_letters > 0).then(|| Finding::new(Level::Warning, "dead_letters", problem, remedy))
}

fn quarantine(state: &State) -> Option<Finding> {
    let problem = format!("{} records of the server's are refused by the local tables", state.quarantined);
    let remedy = "change the rows that are in the way, or the tables: the status lists them";
    (state.quarantined > 0).then(|| Finding::new(Level::Warning, "quarantine", problem, remedy))
}

/// How far ahead the newest edit may be without anybody's clock being wrong.
const AHEAD: Millis = 60 * 60 * 1000;

fn clock(state: &State, now: Millis) -> Option<Finding> {
    let ahead = state.clock.saturating_sub(now);
    let problem =
        format!("the newest edit time seen is {} minutes ahead of this machine's clock", ahead / 60_000);
    let remedy =
        "set the clocks right: until the time has come, whoever edits last by the clock wins with it";
    (ahead > AHEAD).then(|| Finding::new(Level::Warning, "clock", problem, remedy))
}

fn server(state: &State) -> Option<Finding> {
    let problem = "nothing was synced with a server yet";
    let is_new = state.server.is_none() && !state.tables.is_empty();
    is_new.then(|| Finding::new(Level::Note, "server", problem, "sync"))
}

fn walk(table: &TableState) -> Option<Finding> {
    let problem = match table.phase {
        Phase::First if table.policy.pull && table.cursor.is_some() => "its first pull was interrupted",
        Phase::Resync => {
            "it is being pulled again, since the server has forgotten deletions: nothing of it is pushed"
        }
        Phase::Restore { .. } => {
            "it is being pulled again, since the server was restored: nothing of it is pushed"
        }
        Phase::First | Phase::Following => return None,
    };
    let remedy = "sync until it was pulled to the end";
    Some(Finding::new(Level::Note, "walk", problem, remedy).of(&table.spec.name))
}
