//! What a device's worker does, step by step, with the real planners. The steps are those of the engine's jobs: whatever
//! is committed or sent at once is one step.

use dynos_sync_core::{
    Entry,
    plan::{backoff::Backoff, pull, push},
    replica::{Batch, DueLimits, Op, Phase, Replica},
    wire::{Expired, PullRequest, PushAnswer, PushRequest, PushResult},
};
use futures_executor::block_on;

use crate::{
    device::{Device, Job},
    edit,
    fault::Fault,
    rules::{Rule, Rules},
    server::Server,
    variant::Variant,
};

/// How a worker works.
#[derive(Debug)]
pub struct Worker {
    /// What is explored.
    pub variant: Variant,
    /// The rules that it follows.
    pub rules: Rules,
}

impl Worker {
    /// Marks what is due as sent, and sends it. The job is to be told the request's number.
    pub fn send(&self, device: &Device) -> Option<(Device, PushRequest, Vec<Entry>)> {
        let limits = DueLimits {
            now: i64::MAX,
            longest_wait: i64::MAX,
            records: self.variant.batch,
            bytes: usize::MAX,
            under_way: 0,
        };
        let due = block_on(device.replica.due(&limits)).ok()?;
        let walks = matches!(device.table().phase, Phase::Resync | Phase::Restore { .. });
        let waits = walks && self.rules.has(Rule::WalkBeforePush);
        if device.job != Job::Idle || due.groups.is_empty() || waits {
            return None;
        }
        let next = device.fork(Job::Idle);
        let mut prepared = push::prepare(&device.state(), due.groups);
        next.commit(prepared.batch);
        if !self.rules.has(Rule::Freezing) {
            let thaw = |entry: &Entry| Op::Thaw { key: entry.key.clone(), counter: entry.counter };
            next.commit(batch(prepared.entries.iter().map(thaw).collect()));
        }
        if !self.rules.has(Rule::Seen) {
            prepared.request.seen.clear();
        }
        Some((next, prepared.request, prepared.entries))
    }

    /// Takes an answer to a push.
    fn take_answer(&self, device: &Device, sent: &[Entry], answer: &PushAnswer) -> (Device, Option<Fault>) {
        let rules = push::RetryRules {
            max_retries: if self.variant.refusing { 2 } else { 1 },
            backoff: Backoff { exponential: false, cap: std::time::Duration::ZERO },
            keep_refused: false,
            now: 0,
        };
        let Ok(mut answered) = push::answer(&device.state(), sent, answer, &rules, || 0) else {
            return (device.fork(Job::Idle), Some(Fault::Protocol));
        };
        let next = device.fork(Job::Idle);
        let cursor = device.table().cursor;
        let conflict = answer.results.iter().any(|result| matches!(result, PushResult::Conflict { .. }));
        answered.batch.ops.retain(|op| match op {
            Op::Skip { from, .. } => self.rules.has(Rule::Ahead) || Some(from) == cursor.as_ref(),
            _ => true,
        });
        for op in &mut answered.batch.ops {
            let careless =
                !self.rules.has(Rule::SkipAtBefore) || (conflict && !self.rules.has(Rule::ConflictsByPull));
            if let (Op::Skip { from, .. }, Some(cursor), true) = (op, &cursor, careless) {
                *from = cursor.clone();
            }
        }
        next.commit(answered.batch);
        let refused = answer.results.iter().any(|result| matches!(result, PushResult::Rejected { .. }));
        (next, (refused && !self.variant.refusing).then_some(Fault::Refused))
    }

    /// Asks for a page. None where that would change nothing.
    pub fn ask(&self, device: &Device, server: &Server) -> Option<(Device, Option<Fault>)> {
        let (state, table) = (device.state(), device.table());
        let unsettled = device.unsettled(self.variant.batch);
        let request = PullRequest {
            replica: state.replica,
            table: edit::table(),
            cursor: table.cursor.clone(),
            seen: table.ahead.clone(),
            limit: self.variant.page,
            unsettled: unsettled.iter().map(|entry| entry.counter).collect(),
            all: table.phase.wants_all() && self.rules.has(Rule::OwnInFullPulls),
        };
        if device.job != Job::Idle {
            return None;
        }
        let page = match server.pull(&request, self.rules) {
            Ok(page) => page,
            Err(Some(expired)) => {
                let head = server.head();
                return Some((device.fork(Job::Expired { expired, head }), None));
            }
            Err(None) => return Some((device.fork(Job::Idle), Some(Fault::Protocol))),
        };
        let stands = Some(&page.next) == table.cursor.as_ref() && table.ahead.is_none();
        if table.phase == Phase::Following && stands && page.changes.is_empty() && page.settled.is_empty() {
            return None;
        }
        let fault = server.judge_page(state.replica, &page, |record| {
            device.records(&[edit::id(record)], true).into_iter().flat_map(|seen| seen.entries).collect()
        });
        let fault = if pull::check(&request, &page, 0).is_err() { Some(Fault::Protocol) } else { fault };
        Some((device.fork(Job::Page { request, unsettled, page }), fault))
    }

    /// Takes what has come in.
    pub fn take(&self, device: &Device) -> Option<(Device, Option<Fault>)> {
        let table = edit::table();
        match &device.job {
            Job::Idle | Job::Push { answer: None, .. } => None,
            Job::Push { sent, answer: Some(answer), .. } => Some(self.take_answer(device, sent, answer)),
            Job::Page { request, unsettled, page } => {
                Some((self.apply(device, request, unsettled, page), None))
            }
            Job::Expired { expired, head } => {
                let next = device.fork(Job::Idle);
                let now = device.table();
                let phase = now.phase.after(expired);
                let ahead = match expired {
                    Expired::Purged => now.ahead.or(now.cursor),
                    Expired::RolledBack { .. } => Some(head.clone()),
                };
                let ahead = ahead.filter(|_| self.rules.has(Rule::Ahead));
                // What a restored server lacks of a declaration is declared at once.
                let restart = Op::Restart { table: table.clone(), phase, ahead };
                next.commit(batch(vec![restart, Op::Declared { table }]));
                Some((next, None))
            }
            Job::Half(rest) => {
                let next = device.fork(Job::Idle);
                next.commit(rest.clone());
                Some((next.after_page(), None))
            }
        }
    }

    fn apply(
        &self,
        device: &Device,
        request: &PullRequest,
        unsettled: &[Entry],
        page: &dynos_sync_core::wire::Page,
    ) -> Device {
        let (state, mut table) = (device.state(), device.table());
        if table.phase == Phase::Resync && !self.rules.has(Rule::KnownInResync) {
            table.phase = Phase::Following;
        }
        let ids: Vec<_> = page.changes.iter().map(|change| change.id.clone()).collect();
        let seen = device.records(&ids, pull::needs_rows(&table));
        let mut reading = pull::read(&state, &table, request, unsettled, page.clone(), seen);
        let strategy = &self.variant.strategy;
        let mut decide = |conflict| {
            let resolution = block_on(strategy.resolve(&conflict));
            pull::resolve(&table, conflict, &resolution, strategy.name(), 0)
        };
        let resolved = std::mem::take(&mut reading.conflicts).into_iter().map(&mut decide).collect();
        let batch = pull::finish(&table, reading, resolved, page.next.clone(), page.has_more, 0);
        let next = device.fork(Job::Idle);
        if !self.rules.has(Rule::PageWithCursor) {
            let is_cursor = |op: &Op| matches!(op, Op::Advance { .. } | Op::Complete { .. });
            let (cursor, rows): (Vec<Op>, Vec<Op>) = batch.ops.into_iter().partition(is_cursor);
            next.commit(self::batch(cursor));
            return Device { job: Job::Half(self::batch(rows)), ..next };
        }
        next.commit(batch);
        next.after_page()
    }
}

impl Device {
    /// What comes after a page: the next one, which a later step asks for.
    fn after_page(self) -> Self {
        // Nothing reads the journal.
        self.commit(batch(vec![Op::Prune { before: i64::MAX }]));
        Self { job: Job::Idle, ..self }
    }
}

fn batch(ops: Vec<Op>) -> Batch {
    Batch { ops, ..Batch::default() }
}
