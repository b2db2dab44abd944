//! The run: cycles of killing and starting again, and a check every so often.

use std::time::{Duration, Instant};

use crate::{
    check,
    link::count,
    part::{Mode, Part},
    stack::{Fault, Stack},
};

/// How a run goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    pub(crate) cycles: u64,
    pub(crate) check_every: u64,
    /// How long all may take to agree.
    pub(crate) agree_within: Duration,
    /// No cycle is begun after this.
    pub(crate) until: Option<Instant>,
}

/// Every `n`-th check waits for the watchers as they are, pauses after failures included. Before the others they are renewed.
const PATIENT: u64 = 4;

/// How often what ended by itself is looked for.
const TICK: Duration = Duration::from_millis(10);

/// Goes through all cycles. The last one is followed by a check.
pub(crate) async fn run(stack: &mut Stack, course: Course) -> Result<(), Fault> {
    for n in 1..=course.cycles {
        cycle(stack).await?;
        let last = n == course.cycles || course.until.is_some_and(|until| Instant::now() > until);
        if n.is_multiple_of(course.check_every) || last {
            let patient = (n / course.check_every).is_multiple_of(PATIENT);
            heal(stack, patient, course.agree_within).await?;
        }
        count(&stack.tally, |tally| tally.cycles = n);
        if last {
            break;
        }
    }
    Ok(())
}

/// Kills something at some moment, sometimes several things, and starts it again a moment later.
async fn cycle(stack: &mut Stack) -> Result<(), Fault> {
    let count = if stack.dice.u8(..5) == 0 { 3 } else { 1 };
    let mut parts: Vec<Part> = (0..count).map(|_| stack.any_part()).collect();
    parts.sort();
    parts.dedup();
    let life = Duration::from_millis(stack.dice.u64(20..400));
    pass(stack, life, &[]).await?;
    let mut down = Vec::new();
    for part in parts {
        down.push(part);
        stack.kill(part).await?;
    }
    let death = Duration::from_millis(stack.dice.u64(..120));
    pass(stack, death, &down).await?;
    // What others need comes first, or last: by the dice.
    if stack.dice.bool() {
        down.reverse();
    }
    // A server does not start without its database.
    down.sort_by_key(|part| *part == Part::Database);
    while let Some(part) = down.pop() {
        stack.start_again(part).await?;
    }
    no_violation(stack)
}

/// Lets time pass, and looks after what ends by itself.
async fn pass(stack: &mut Stack, time: Duration, down: &[Part]) -> Result<(), Fault> {
    let start = Instant::now();
    while start.elapsed() < time {
        stack.tend(down)?;
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// What a proxy has seen that must not be.
fn no_violation(stack: &Stack) -> Result<(), Fault> {
    let found = count(&stack.tally, |tally| std::mem::take(&mut tally.violations));
    if found.is_empty() { Ok(()) } else { Err(found.join("\n").into()) }
}

/// Stops the writers and calms the network, and checks everything once all have synced.
async fn heal(stack: &mut Stack, patient: bool, within: Duration) -> Result<(), Fault> {
    let gate = stack.gate.clone();
    let _nobody_writes = gate.write().await;
    for device in &mut stack.devices {
        if let Some(link) = &mut device.link {
            link.calm().await?;
        }
    }
    for number in 0..stack.devices.len() {
        if !(patient && stack.mode(number) == Mode::Watch) {
            stack.renew(number).await?;
        }
    }
    check::settled(stack, within).await?;
    for device in &mut stack.devices {
        if let Some(link) = &mut device.link {
            link.rough().await?;
        }
    }
    no_violation(stack)
}
