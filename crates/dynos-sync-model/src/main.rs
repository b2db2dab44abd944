//! Explores everything, and prints what was found.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

use std::process::ExitCode;

use clap::Parser;
use dynos_sync_model::{
    explore::explore,
    rules::{Rule, Rules},
    variant::Variant,
};

/// Explores every state of the sync protocol, variant by variant.
#[derive(Debug, Parser)]
struct Args {
    /// Only this variant. With a rule off, that which shows it unless said otherwise.
    #[arg(long)]
    variant: Option<String>,
    /// Without this rule: shows how an invariant breaks.
    #[arg(long)]
    rule_off: Option<Rule>,
    /// How many edits there are, at most 3, where it is not to be as many as the variant has.
    #[arg(long)]
    edits: Option<usize>,
    /// How many threads explore.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Breadth first: needs more memory, finds the shortest path to what is broken.
    #[arg(long)]
    shortest: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let rules = args.rule_off.map_or(Rules::default(), Rules::without);
    let shown = args.rule_off.map(Rule::shown_by);
    let variants: Vec<Variant> = match args.variant.as_deref().or(shown.map(|(name, _)| name)) {
        Some(name) => Variant::named(name).into_iter().collect(),
        None => Variant::all(),
    };
    let edits = args.edits.or(shown.map(|(_, edits)| edits));
    println!(
        "{:<32} {:>5} {:>12} {:>12} {:>6} {:>9}  properties held",
        "variant", "edits", "states", "unique", "depth", "seconds"
    );
    let mut holds = true;
    for variant in variants {
        let name = variant.name;
        let shortest = args.shortest || args.rule_off.is_some();
        let edits = edits.unwrap_or(variant.edits).min(3);
        let found = explore(variant.with_edits(edits), rules, args.threads, shortest);
        let held = found.properties - found.broken.len();
        println!(
            "{name:<32} {edits:>5} {:>12} {:>12} {:>6} {:>9.1}  {held} of {}",
            found.states,
            found.unique,
            found.depth,
            found.time.as_secs_f64(),
            found.properties,
        );
        holds &= found.broken.is_empty();
        for (property, path) in &found.broken {
            println!("\nbroken, {rules}: {property}");
            path.iter().for_each(|line| println!("  {line}"));
        }
    }
    // Without a rule something has to break.
    if holds == args.rule_off.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
