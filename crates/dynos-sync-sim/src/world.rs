//! A whole world from one seed: what there is, what happens, and that it ends well.

use std::sync::{Arc, Mutex};

use dynos_sync_core::{Clock, Millis, RecordKey, TableName};
use dynos_sync_sqlite::Synchronous;
use tokio::runtime::Runtime;

use crate::{
    check,
    device::{Device, NEWEST, Parts, Running},
    disk::{self, Fault, Loss},
    executor::{Executor, TaskId},
    history::{History, Violation},
    network::Network,
    server::Server,
    step,
    swarm::{Step, Swarm, TABLES},
    tally::{Counts, Tally},
    time::Timeline,
};

/// When worlds begin.
const BEGINNING: Millis = 1_800_000_000_000;

/// How to run a seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether every line of the trace is printed.
    pub print: bool,
    /// No step after this one, where one is given.
    pub steps: Option<u32>,
    /// Steps that are left out.
    pub without: Vec<u32>,
    /// Kinds of steps that are left out.
    pub without_kinds: Vec<Step>,
    /// Whether the wire is good from the beginning.
    pub calm: bool,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The trace's hash.
    pub hash: u64,
    /// What was done, and what went wrong.
    pub counts: Counts,
    /// What must never be, and was.
    pub violations: Vec<Violation>,
    /// The trace's last lines.
    pub tail: Vec<String>,
    /// How many steps the seed draws.
    pub steps: u32,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) parts: Parts,
    pub(crate) executor: Executor,
    schedule: fastrand::Rng,
    pub(crate) devices: Vec<Device>,
    pub(crate) notices: Arc<Mutex<Vec<Notice>>>,
    pub(crate) killers: Vec<Option<Killer>>,
}

/// What is to happen when a disk's armed fault has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Killer {
    Kill,
    Power(u64),
    Error(&'static str),
}

/// Something that a task has to tell the world.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice {
    /// A logout has ended.
    Left { device: usize, done: bool },
    /// A table is synced from now on.
    Added { device: usize, table: &'static str },
    /// The second process on a device's file has ended.
    Ended { device: usize },
}

/// Something that must never be, for whoever runs worlds.
pub fn violation(checker: &'static str, found: String) -> Violation {
    Violation { checker, found }
}

/// Runs a seed.
pub fn run(seed: u64, runtime: &Arc<Runtime>, options: &Options) -> Report {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut swarm = Swarm::draw(&mut random);
    swarm.weights.retain(|(step, _)| !options.without_kinds.contains(step));
    if options.calm {
        swarm.trouble = crate::network::Trouble::default();
    }
    let history = History::new(400, options.print);
    let tally = Tally::default();
    let steps = swarm.steps;
    history.note(0, &format!("seed {seed}: {swarm:?}"));
    match World::new(seed, runtime, swarm, &history, &tally) {
        Err(error) => history.violation("world", format!("did not come to be: {error}")),
        Ok(mut world) => {
            world.live(options, steps);
            world.heal();
            world.judge();
        }
    }
    tally.done("seeds");
    let violations = history.lock().violations.clone();
    Report { hash: history.hash(), counts: tally.counts(), violations, tail: history.tail(), steps }
}

impl World {
    fn new(
        seed: u64,
        runtime: &Arc<Runtime>,
        swarm: Swarm,
        history: &History,
        tally: &Tally,
    ) -> std::io::Result<Self> {
        let executor = Executor::default();
        let timeline = Timeline::new(BEGINNING);
        let shared = [TableName::try_from("board".to_owned())].into_iter().flatten().collect();
        let server = Server::start(Arc::clone(runtime), history, &timeline, shared, swarm.page)?;
        if !swarm.has(Step::DeviceBackUp) {
            server.expect_repeats();
        }
        let network = Network::new(seed ^ 0x4E45_5457, swarm.trouble, tally.clone());
        let swarm = Arc::new(swarm);
        let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed ^ 0x1DE4)));
        let spawner = executor.spawner();
        let (history, tally) = (history.clone(), tally.clone());
        let parts = Parts { swarm, timeline, spawner, network, server, history, tally, random };
        let devices: Vec<Device> =
            (0..parts.swarm.devices).map(|number| Device::new(&parts, number)).collect();
        let schedule = fastrand::Rng::with_seed(seed ^ 0x5C4E_D01E);
        let killers = devices.iter().map(|_| None).collect();
        let mut world = Self { seed, parts, executor, schedule, devices, notices: Arc::default(), killers };
        for device in 0..world.devices.len() {
            world.start(device);
        }
        Ok(world)
    }

    /// Notes something in the trace.
    pub(crate) fn note(&self, line: &str) {
        self.parts.history.note(self.parts.timeline.now(), line);
    }

    fn live(&mut self, options: &Options, steps: u32) {
        for n in 0..steps.min(options.steps.unwrap_or(u32::MAX)) {
            // Each step draws from a generator of its own, so that leaving one out leaves the others as they are.
            let mut random = fastrand::Rng::with_seed(self.seed.wrapping_mul(1_000_003) ^ u64::from(n));
            let pause = random.i64(0..=self.parts.swarm.pause);
            // Sometimes a step comes so soon that the one before has not begun.
            if random.u8(..4) > 0 {
                self.pass(pause);
            }
            if random.bool() {
                self.stop_midway(&mut random);
            }
            if options.without.contains(&n) {
                continue;
            }
            self.parts.tally.done("steps");
            step::take(self, n, &mut random);
            self.revive(&mut random);
            // A look at a device costs as much as a step, or more.
            if random.bool() {
                let device = random.usize(..self.devices.len());
                check::device(self, device);
                self.meet_fate(device);
            }
            if !self.parts.history.lock().violations.is_empty() {
                return;
            }
        }
    }

    /// Lets everybody go on for some time.
    pub(crate) fn pass(&mut self, pause: Millis) {
        let limit = self.parts.timeline.now() + pause;
        loop {
            while self.run_one() {}
            if !self.parts.timeline.advance(limit) {
                return;
            }
        }
    }

    /// Goes on a little, and stops while somebody is in the midst of something: the next step comes in between.
    fn stop_midway(&mut self, random: &mut fastrand::Rng) {
        const SOON: Millis = 30_000;
        for _ in 0..random.usize(1..=3) {
            self.parts.timeline.advance(self.parts.timeline.now() + SOON);
        }
        for _ in 0..random.usize(..20) {
            self.run_one();
        }
    }

    pub(crate) fn run_one(&mut self) -> bool {
        // Who reads the clock of SQLite reads the one of the device whose turn it is; they differ by hours at most, and nothing but
        // the times of other programs' edits depends on it.
        disk::set_now(self.parts.timeline.now());
        let ran = self.executor.run_one(&mut self.schedule);
        for device in 0..self.devices.len() {
            self.meet_fate(device);
        }
        let notices =
            std::mem::take(&mut *self.notices.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for notice in notices {
            self.heed(notice);
        }
        ran
    }

    /// Whether a disk's armed fault has happened, and what follows from that.
    pub(crate) fn meet_fate(&mut self, device: usize) {
        let Some(killer) = self.killers[device] else { return };
        if !self.devices[device].disk.has_failed() {
            return;
        }
        let doing = self.devices[device].activity.get();
        match killer {
            Killer::Error(name) => {
                self.parts.tally.fault(name, doing);
                // It goes on failing for as long as it was told to.
                self.killers[device] = None;
            }
            Killer::Kill => {
                self.parts.tally.fault("killed in a call", doing);
                self.kill(device);
            }
            Killer::Power(seed) => {
                self.parts.tally.fault("power lost in a call", doing);
                self.lose_power(device, seed);
            }
        }
    }

    fn heed(&mut self, notice: Notice) {
        match notice {
            Notice::Added { device, table } => self.devices[device].tables.push(table),
            Notice::Ended { device } => self.devices[device].second = None,
            Notice::Left { device, done } => {
                self.devices[device].leaving = false;
                if done {
                    check::left(self, device);
                    self.arrive(device);
                }
            }
        }
    }

    /// Starts a device's process. Where that fails it stays dead for now.
    pub(crate) fn start(&mut self, device: usize) {
        if self.devices[device].running.is_some() {
            return;
        }
        let before = self.devices[device].generation;
        match self.devices[device].start() {
            Ok(()) => {
                self.note(&format!("device {device} starts as {}", self.devices[device].user));
                if before.is_some() && self.devices[device].generation > before {
                    // The logout that was under way when the process died had been done.
                    self.stop(device);
                    check::left(self, device);
                    self.arrive(device);
                    return;
                }
                check::opened(self, device);
                self.meet_fate(device);
            }
            Err(error) => {
                self.note(&format!("device {device} does not start: {error}"));
                self.meet_fate(device);
            }
        }
    }

    /// Ends a device's process, as it would itself.
    pub(crate) fn stop(&mut self, device: usize) {
        let Some(Running { engine, data, tasks }) = self.devices[device].running.take() else { return };
        check::remember(self, device, &data);
        self.devices[device].second = None;
        self.executor.abort(&tasks);
        drop(engine);
        futures_executor::block_on(data.replica().close());
        self.parts.history.interrupt(device);
    }

    /// Ends a device's process, and puts the application's next version in its place.
    pub(crate) fn upgrade(&mut self, device: usize) {
        if self.devices[device].version < NEWEST {
            self.parts.tally.done("upgrades");
            self.stop(device);
            self.devices[device].version = NEWEST;
        }
    }

    /// Kills a device's process.
    pub(crate) fn kill(&mut self, device: usize) {
        self.devices[device].disk.kill();
        self.killers[device] = None;
        self.bury(device);
        if self.devices[device].in_memory {
            self.devices[device].generation = None;
            self.parts.history.excuse("in memory only", |op| op.device == device);
            self.revive_all(device);
        }
    }

    /// A device loses its power.
    pub(crate) fn lose_power(&mut self, device: usize, seed: u64) {
        if self.devices[device].in_memory {
            return self.kill(device);
        }
        self.excuse_unsynced(device);
        self.devices[device].disk.lose_power(&mut Loss::new(seed));
        self.killers[device] = None;
        self.bury(device);
    }

    /// What the promise of [`Synchronous::Normal`](dynos_sync_sqlite::Synchronous::Normal) does not cover.
    fn excuse_unsynced(&self, device: usize) {
        if self.parts.swarm.synchronous == Synchronous::Full {
            return;
        }
        let synced = self.devices[device].disk.log_syncs();
        let acknowledged = &self.devices[device].acknowledged;
        for (op, at) in acknowledged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            if *at >= synced {
                self.parts.history.lock().ops[*op as usize].excused.get_or_insert("power lost");
            }
        }
    }

    /// Drops what the dead process leaves behind.
    fn bury(&mut self, device: usize) {
        self.note(&format!("device {device} is dead"));
        self.devices[device].lock = None;
        self.devices[device].other = None;
        self.devices[device].leaving = false;
        self.parts.network.set_offline(device, true);
        self.parts.network.set_offline(device, false);
        self.devices[device].second = None;
        if let Some(Running { tasks, engine, data }) = self.devices[device].running.take() {
            self.executor.abort(&tasks);
            drop((engine, data));
        }
        self.parts.history.interrupt(device);
    }

    /// Starts dead devices again, sooner or later. Something may go wrong at once.
    fn revive(&mut self, random: &mut fastrand::Rng) {
        for device in 0..self.devices.len() {
            if self.devices[device].running.is_some() || random.u8(..3) > 0 {
                continue;
            }
            if random.u8(..4) == 0 {
                step::strike(self, device, random, Step::is_of_disk);
            }
            self.start(device);
            if random.u8(..4) == 0 {
                step::strike(self, device, random, Step::is_fault);
            }
        }
    }

    /// Old operations of a record may come again.
    pub(crate) fn revive_key(&self, device: usize, key: &RecordKey) {
        self.parts.server.mirror(|mirror| mirror.revived.insert((device, key.clone())));
    }

    /// Old operations of a device may come again: its file is older than they are.
    pub(crate) fn revive_all(&self, device: usize) {
        for table in TABLES {
            for n in 0..self.parts.swarm.records {
                if let Ok(key) = RecordKey::new(table, &format!("r{n}")) {
                    self.revive_key(device, &key);
                }
            }
        }
    }

    /// Another user comes to a device that one has left.
    fn arrive(&mut self, device: usize) {
        self.stop(device);
        let users = self.parts.swarm.users;
        if self.devices[device].discards {
            let session = self.devices[device].session;
            self.parts.history.excuse("discarded", |op| op.device == device && op.session == session);
        }
        let taken = &mut self.devices[device];
        taken.session += 1;
        taken.user = format!("user{}", (device + taken.session as usize) % users);
        taken.generation = None;
        taken.images.clear();
        taken.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        self.start(device);
    }

    /// Starts a task that ends with the device's process.
    pub(crate) fn spawn(&mut self, device: usize, task: impl Future<Output = ()> + Send + 'static) {
        let id: TaskId = self.parts.spawner.spawn(task);
        if let Some(running) = &mut self.devices[device].running {
            running.tasks.push(id);
        }
    }

    /// Arms a fault of a device's disk.
    pub(crate) fn arm(&mut self, device: usize, after: u64, fault: Fault, killer: Killer) {
        self.meet_fate(device);
        self.devices[device].disk.arm(after, fault);
        self.killers[device] = Some(killer);
    }

    /// From now on nothing goes wrong, and everybody has time.
    fn heal(&mut self) {
        const ROUNDS: usize = 120;
        self.note("everything heals");
        if self.parts.swarm.weights.iter().any(|(step, _)| *step == Step::Clock) {
            self.run_ahead();
        }
        self.parts.network.heal();
        for device in 0..self.devices.len() {
            self.meet_fate(device);
            self.devices[device].clock.set_ahead(0);
            self.devices[device].disk.disarm();
            self.devices[device].lock = None;
            self.killers[device] = None;
        }
        // Who has to sign in does so, perhaps after a logout that came to nothing. Afterwards, or where nobody has to, an engine
        // comes to rest by itself, too, without anybody who asks for a sync.
        let asks = self.seed.is_multiple_of(2);
        let sign_in = if self.parts.swarm.ends_sessions() { 2 } else { 0 };
        for round in 0..ROUNDS {
            for device in 0..self.devices.len() {
                if !self.devices[device].leaving {
                    self.upgrade(device);
                }
                self.start(device);
                if asks || round < sign_in {
                    self.sync(device);
                }
            }
            self.pass(65_000);
            if !self.parts.history.lock().violations.is_empty() {
                return;
            }
            let quiet = round > 0 && self.parts.network.is_quiet();
            if quiet && (0..self.devices.len()).all(|device| check::is_done(self, device)) {
                return;
            }
        }
        for device in 0..self.devices.len() {
            if !check::is_done(self, device) {
                let state = check::state(self, device);
                self.parts.history.violation("progress", format!("device {device} never ends: {state:?}"));
            }
        }
    }

    /// Everybody's clock is wrong by a year when edits are made, and what fails is put off by it.
    fn run_ahead(&mut self) {
        const YEAR: i64 = 365 * 24 * 60 * 60 * 1000;
        let mut random = fastrand::Rng::with_seed(self.seed);
        self.devices.iter().for_each(|device| device.clock.set_ahead(YEAR));
        self.pass(65_000);
        for device in 0..self.devices.len() {
            for _ in 0..3 {
                step::edit(self, device, &mut random, 0);
            }
        }
        self.pass(2_000);
    }

    /// Asks a device for a sync, as its application would.
    pub(crate) fn sync(&mut self, device: usize) {
        let Some(running) = &self.devices[device].running else { return };
        let engine = running.engine.clone();
        let (history, timeline) = (self.parts.history.clone(), self.parts.timeline.clone());
        self.spawn(device, async move {
            if let Err(error) = engine.sync_all().await {
                history.note(timeline.now(), &format!("device {device} cannot sync: {error}"));
            }
        });
    }

    fn judge(&mut self) {
        if !self.parts.history.lock().violations.is_empty() {
            return;
        }
        self.parts.server.check();
        for device in 0..self.devices.len() {
            check::device(self, device);
            check::converged(self, device);
            check::intact(self, device);
            check::secrets(self, device);
        }
        check::trails(self);
    }

    /// The time by a device's clock.
    pub(crate) fn local_time(&self, device: usize) -> Millis {
        self.devices[device].clock.now()
    }
}
