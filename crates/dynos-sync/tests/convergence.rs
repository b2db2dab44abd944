//! Devices, a bad network and random schedules: in the end all replicas equal the server, and nobody's own work is lost.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
};

use common::{BadNetwork, Faults, NetworkState, Random, TestClock};
use dynos_sync::{
    Driver, Strategy, SyncConfig, SyncError,
    core::{
        RecordId, Replica, TableName, Value,
        memory::{MemoryReplica, MemoryServer},
        replica::TableOptions,
    },
    fields, json,
    sqlite::{SqliteOptions, SqliteReplica},
};
use futures_executor::block_on;

const TABLE: &str = "notes";

struct Device {
    driver: Driver,
    clock: Arc<TestClock>,
    replica: Arc<dyn Replica>,
}

struct World {
    seed: u64,
    random: Random,
    server: MemoryServer,
    network: Arc<Mutex<NetworkState>>,
    devices: Vec<Device>,
    ids: Vec<String>,
    now: i64,
    /// Records that only one device ever writes, and its last value: they must survive.
    own: BTreeMap<String, Value>,
    _files: tempfile::TempDir,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Storage {
    Memory,
    Sqlite,
}

impl World {
    fn new(seed: u64, storage: Storage) -> Self {
        let mut random = Random::new(seed);
        let server = MemoryServer::new();
        let pick =
            |random: &mut Random, choices: &[u64]| choices[random.below(choices.len() as u64) as usize];
        let faults = Faults {
            lost_request: pick(&mut random, &[0, 10, 25]),
            lost_reply: pick(&mut random, &[0, 10, 25]),
            delayed: pick(&mut random, &[0, 30]),
            repeated: pick(&mut random, &[0, 20]),
        };
        let network = NetworkState { faults, random: Random::new(seed ^ 0xABCD), limbo: Vec::new() };
        let network = Arc::new(Mutex::new(network));
        let files = tempfile::tempdir().unwrap();
        let strategy = match random.below(4) {
            0 => Strategy::LastWriteWins,
            1 => Strategy::ServerWins,
            2 => Strategy::ClientWins,
            _ => Strategy::Merge,
        };
        let mut config = SyncConfig::default();
        config.conflict_strategy = strategy;
        config.page_size = pick(&mut random, &[1, 2, 50]) as usize;
        config.batch_size = pick(&mut random, &[1, 3, 50]) as usize;
        let devices = 2 + random.below(3);
        let devices =
            (0..devices).map(|n| device(seed, n, storage, &server, &network, &config, &files)).collect();
        let ids = (0..1 + random.below(3)).map(|n| format!("x{n}")).collect();
        Self { seed, random, server, network, devices, ids, now: 1_000, own: BTreeMap::new(), _files: files }
    }

    fn step(&mut self, step: u64) {
        self.now += self.random.below(3) as i64;
        let place = self.random.below(self.devices.len() as u64) as usize;
        let skew = [0, 0, 50][self.random.below(3) as usize];
        self.devices[place].clock.0.store(self.now + skew, Ordering::Relaxed);
        match self.random.below(100) {
            0..45 => self.edit(place, step),
            45..50 => {
                let id = format!("own-{place}-{}", step % 7);
                block_on(self.devices[place].driver.write(TABLE, &id, fields([("v", json!(step))]))).unwrap();
                self.own.insert(id, json!({"v": step}));
            }
            50..70 => self.sync(place, true),
            70..90 => self.sync(place, false),
            _ => self.deliver_late(),
        }
    }

    fn edit(&mut self, place: usize, step: u64) {
        let id = self.ids[self.random.below(self.ids.len() as u64) as usize].clone();
        let value = json!([place, step]);
        let driver = &self.devices[place].driver;
        let result = match self.random.below(5) {
            0 | 1 => block_on(driver.write(TABLE, &id, fields([("a", value.clone()), ("b", value)]))),
            2 | 3 => {
                let field = ["a", "b"][self.random.below(2) as usize];
                block_on(driver.patch(TABLE, &id, fields([(field, value)])))
            }
            _ => block_on(driver.remove(TABLE, &id)).map(drop),
        };
        match result {
            Ok(()) => {}
            Err(SyncError::Replica(dynos_sync::core::ReplicaError::NotFound(_))) => {}
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    fn sync(&mut self, place: usize, push: bool) {
        let driver = &self.devices[place].driver;
        let result = if push {
            block_on(driver.drain_once()).map(drop)
        } else {
            block_on(driver.pull_all()).map(drop)
        };
        if let Err(error) = result {
            assert!(error.is_transient(), "seed {}: {error}", self.seed);
        }
    }

    fn deliver_late(&mut self) {
        let late = {
            let mut network = self.network.lock().unwrap();
            if network.limbo.is_empty() {
                return;
            }
            let place = self.random.below(network.limbo.len() as u64) as usize;
            network.limbo.remove(place)
        };
        // Nobody waits for the answer any more.
        let _ = block_on(late.0.push(&late.1));
    }

    fn settle(&mut self) {
        self.network.lock().unwrap().faults = Faults::default();
        for round in 0..30 {
            if round < 3 {
                self.deliver_late();
            }
            for device in &self.devices {
                block_on(device.driver.sync_all()).unwrap_or_else(|e| panic!("seed {}: {e}", self.seed));
            }
        }
    }

    fn check(&self) {
        let table: TableName = TABLE.parse().unwrap();
        let server = self.server.records("ada", &table);
        for (place, device) in self.devices.iter().enumerate() {
            let state = block_on(device.replica.state()).unwrap();
            assert_eq!((state.pending, state.dead_letters), (0, 0), "seed {} device {place}", self.seed);
            for id in self.ids.iter().chain(self.own.keys()) {
                let id: RecordId = id.parse().unwrap();
                let here = block_on(device.driver.get(TABLE, id.as_str())).unwrap();
                assert_eq!(here.as_ref(), server.get(&id), "seed {} device {place} record {id}", self.seed);
            }
        }
        for (id, value) in &self.own {
            let found = server.get(&id.parse().unwrap()).cloned().map(Value::Object);
            assert_eq!(found.as_ref(), Some(value), "seed {}: {id} was lost", self.seed);
        }
    }
}

fn device(
    seed: u64,
    n: u64,
    storage: Storage,
    server: &MemoryServer,
    network: &Arc<Mutex<NetworkState>>,
    config: &SyncConfig,
    files: &tempfile::TempDir,
) -> Device {
    let replica: Arc<dyn Replica> = match storage {
        Storage::Memory => {
            let mut identity = [0; 16];
            identity[..8].copy_from_slice(&(seed * 16 + n).to_le_bytes());
            Arc::new(MemoryReplica::new(identity))
        }
        Storage::Sqlite => {
            let path = files.path().join(format!("{n}.sqlite"));
            Arc::new(SqliteReplica::open(path, &SqliteOptions::default()).unwrap())
        }
    };
    block_on(replica.add_table(TableOptions::new(TABLE.parse().unwrap()))).unwrap();
    let clock = Arc::new(TestClock::default());
    let remote = BadNetwork { inner: Arc::new(server.remote("ada")), state: Arc::clone(network) };
    let driver = block_on(Driver::new(
        Arc::clone(&replica),
        Arc::new(remote),
        clock.clone(),
        config.clone(),
        Box::new(|| 0),
    ));
    Device { driver: driver.unwrap(), clock, replica }
}

fn run(seed: u64, storage: Storage) {
    let mut world = World::new(seed, storage);
    for step in 0..20 + world.random.below(130) {
        world.step(step);
    }
    world.settle();
    world.check();
}

#[test]
fn replicas_in_memory_converge_whatever_the_network_does() {
    for seed in 0..seeds(1000) {
        run(seed, Storage::Memory);
    }
}

#[test]
fn replicas_in_sqlite_converge_whatever_the_network_does() {
    for seed in 0..seeds(40) {
        run(seed, Storage::Sqlite);
    }
}

/// `DYNOS_SEEDS` runs that many schedules in place of the usual number.
fn seeds(usual: u64) -> u64 {
    std::env::var("DYNOS_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}
