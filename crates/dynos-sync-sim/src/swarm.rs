//! What a seed draws before anything happens: who is there, what they do, and what goes wrong, how much. Each seed is good at
//! something and leaves other things out, in place of doing a little of everything (Groce et al., "Swarm Testing", 2012).

use dynos_sync::Strategy;
use dynos_sync_sqlite::Synchronous;

use crate::network::Trouble;

/// See the module.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// How many devices.
    pub devices: usize,
    /// How many users they belong to.
    pub users: usize,
    /// How conflicts are decided.
    pub strategy: Strategy,
    /// When devices make a commit durable.
    pub synchronous: Synchronous,
    /// Changes in a page, for devices and server.
    pub page: usize,
    /// Records in a push.
    pub batch: usize,
    /// Records in a table.
    pub records: usize,
    /// Which of the tables are used.
    pub tables: Vec<&'static str>,
    /// The longest pause between steps, in milliseconds.
    pub pause: i64,
    /// How many steps.
    pub steps: u32,
    /// What goes wrong on the wire.
    pub trouble: Trouble,
    /// Whether applications write a field that must not leave them.
    pub secrets: bool,
    /// A device that keeps its data in memory only.
    pub in_memory: Option<usize>,
    /// How much weight each kind of step has.
    pub weights: Vec<(Step, u32)>,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The application writes, patches or removes a record.
    Edit,
    /// The application writes several records at once.
    EditMany,
    /// The application writes several records that take effect together.
    Transaction,
    /// Another program writes to the file.
    Sql,
    /// The application asks for a sync.
    Sync,
    /// Another process of the application opens the file, syncs or logs out, and ends.
    Second,
    /// A device loses its network, or gets it back.
    Offline,
    /// Hours pass in which a device is off the network.
    Days,
    /// A device's clock is set.
    Clock,
    /// The answer to a push is lost, and before its sender asks again others go on from what it sent.
    Echo,
    /// A device's process is killed.
    Kill,
    /// A device loses its power.
    Power,
    /// A device's disk is full, for a while.
    DiskFull,
    /// A device's disk answers errors, for a while.
    DiskBroken,
    /// Another program holds the lock of a device's file, for a while.
    Lock,
    /// A user leaves a device, and one comes.
    Logout,
    /// A device's file is copied away.
    DeviceBackUp,
    /// A copy of a device's file is put back.
    DeviceRestore,
    /// The server's process is killed and starts again.
    ServerRestart,
    /// The server's machine loses its power, and the server its last commits.
    ServerPower,
    /// The server's data is copied.
    ServerBackUp,
    /// A copy of the server's data is put back.
    ServerRestore,
    /// The server forgets old tombstones.
    Purge,
    /// Somebody decides about a dead letter or a conflict.
    Review,
    /// A device stops syncing a table, or begins again.
    Table,
    /// The application writes what the server will refuse.
    Oversize,
    /// The application's next version comes to a device.
    Upgrade,
}

impl Step {
    /// All of them, with their usual weight, and how often a seed has them at all, in percent. (A copy is put back where copies
    /// are made.)
    const ALL: [(Self, u32, u8); 27] = [
        (Self::Edit, 400, 100),
        (Self::EditMany, 30, 50),
        (Self::Transaction, 60, 50),
        (Self::Sql, 100, 60),
        (Self::Sync, 60, 70),
        (Self::Second, 30, 30),
        (Self::Offline, 40, 60),
        (Self::Days, 5, 30),
        (Self::Clock, 15, 40),
        (Self::Echo, 15, 40),
        (Self::Kill, 30, 50),
        (Self::Power, 25, 35),
        (Self::DiskFull, 20, 30),
        (Self::DiskBroken, 20, 30),
        (Self::Lock, 20, 30),
        (Self::Logout, 20, 40),
        (Self::DeviceBackUp, 20, 25),
        (Self::DeviceRestore, 15, 100),
        (Self::ServerRestart, 12, 40),
        (Self::ServerPower, 12, 30),
        (Self::ServerBackUp, 20, 25),
        (Self::ServerRestore, 15, 100),
        (Self::Purge, 12, 35),
        (Self::Review, 20, 50),
        (Self::Table, 6, 20),
        (Self::Oversize, 15, 25),
        (Self::Upgrade, 10, 40),
    ];
}

impl Step {
    /// Whether something goes wrong with it.
    pub fn is_fault(self) -> bool {
        let elsewhere = matches!(
            self,
            Self::Offline
                | Self::Clock
                | Self::Lock
                | Self::DeviceRestore
                | Self::ServerRestart
                | Self::ServerPower
                | Self::ServerRestore
        );
        elsewhere || self.is_of_disk()
    }

    /// Whether it lies in wait for a call to the disk.
    pub fn is_of_disk(self) -> bool {
        matches!(self, Self::Kill | Self::Power | Self::DiskFull | Self::DiskBroken)
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().map(|(step, ..)| step)
    }
}

/// The tables that devices have. Everybody shares the last one.
pub const TABLES: [&str; 3] = ["notes", "tasks", "board"];

impl Swarm {
    /// Whether a device may find its session at its end.
    pub fn ends_sessions(&self) -> bool {
        let ends = |(step, _): &(Step, u32)| matches!(step, Step::Logout | Step::Second);
        self.trouble.expired > 0 || self.weights.iter().any(ends)
    }

    /// Whether seeds of this kind have a step.
    pub fn has(&self, step: Step) -> bool {
        self.weights.iter().any(|(other, _)| *other == step)
    }

    /// Draws.
    pub fn draw(random: &mut fastrand::Rng) -> Self {
        let devices = random.usize(2..=5);
        let users = random.usize(1..=3.min(devices));
        let strategy = match random.u8(..5) {
            0 | 1 => Strategy::LastWriteWins,
            2 => Strategy::ServerWins,
            3 => Strategy::ClientWins,
            _ => Strategy::Merge,
        };
        let mut tables: Vec<_> = TABLES.into_iter().filter(|_| random.u8(..3) < 2).collect();
        if tables.is_empty() {
            tables.push(TABLES[random.usize(..TABLES.len())]);
        }
        // In memory every table is one of documents, and all devices have to agree about that.
        let in_memory = (random.u8(..5) == 0 && tables != ["tasks"]).then(|| random.usize(..devices));
        tables.retain(|table| in_memory.is_none() || *table != "tasks");
        let pick = |random: &mut fastrand::Rng, choices: &[usize]| choices[random.usize(..choices.len())];
        Self {
            devices,
            users,
            strategy,
            synchronous: if random.bool() { Synchronous::Full } else { Synchronous::Normal },
            page: pick(random, &[1, 2, 5, 100]),
            batch: pick(random, &[1, 3, 50]),
            records: pick(random, &[1, 2, 4, 12]),
            tables,
            pause: [200, 2_000, 20_000][random.usize(..3)],
            steps: random.u32(100..=140),
            trouble: trouble(random),
            secrets: random.u8(..4) == 0,
            in_memory,
            weights: weights(random),
        }
    }
}

fn trouble(random: &mut fastrand::Rng) -> Trouble {
    let mut draw = |choices: &[u8]| if random.bool() { choices[random.usize(..choices.len())] } else { 0 };
    Trouble {
        lost_request: draw(&[2, 10, 25]),
        lost_answer: draw(&[2, 10, 40]),
        late: draw(&[2, 10]),
        repeated: draw(&[5, 20]),
        refused: draw(&[2, 10]),
        failed: draw(&[2, 10]),
        throttled: draw(&[2, 10]),
        expired: draw(&[1, 5]),
        lost_hint: draw(&[10, 100]),
        body_limit: if random.bool() { [600, 1000, 3000][random.usize(..3)] } else { 0 },
    }
}

fn weights(random: &mut fastrand::Rng) -> Vec<(Step, u32)> {
    let mut weights = Vec::new();
    for (step, usual, often) in Step::ALL {
        let is_off = |other| !weights.iter().any(|(step, _)| *step == other);
        let has_no_copy = match step {
            Step::DeviceRestore => is_off(Step::DeviceBackUp),
            Step::ServerRestore => is_off(Step::ServerBackUp),
            _ => false,
        };
        if random.u8(..100) < often && !has_no_copy {
            weights.push((step, usual * random.u32(1..=4)));
        }
    }
    weights
}
