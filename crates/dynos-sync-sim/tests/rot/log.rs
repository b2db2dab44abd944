//! Damage to the write-ahead log. SQLite takes the first frame that does not fit for the log's end: what remains is what the
//! database was at an earlier moment, whole.

use dynos_sync_sim::disk::Image;
use futures_executor::block_on;
use rusqlite::Connection;

use crate::{
    device::{DATABASE, Device, LOG, Moment, drive},
    life::{End, Expected, Life, Tally},
    server::{Tap, values},
};

const HEADER: usize = 32;
const FRAME: usize = 24 + 512;

/// A device that was killed with a log, and what it was after each of the transactions in it.
struct Logged {
    device: Device,
    moments: Vec<Moment>,
    looks: Vec<Look>,
    log: Vec<u8>,
}

/// What tells one moment from another.
type Look = Vec<(i64, String)>;

impl Logged {
    fn new(name: &str, user: &str) -> Self {
        let device = Device::new(name, user);
        let images = transactions(&device, user);
        let log = device.disk.read(LOG).unwrap();
        let (mut moments, mut looks) = (Vec::new(), Vec::new());
        for image in &images {
            device.disk.put_back(image);
            looks.push(look(&device).unwrap());
            device.disk.put_back(image);
            moments.push(device.moment());
        }
        Self { device, moments, looks, log }
    }

    fn last(&self) -> &Moment {
        self.moments.last().unwrap()
    }

    /// The file with another log beside it, which is one of the earlier moments: which one?
    fn moment_with(&self, log: &[u8]) -> usize {
        self.device.begin_again(self.last());
        self.device.disk.write(LOG, log.to_vec());
        let look = look(&self.device).unwrap();
        self.looks.iter().position(|earlier| *earlier == look).expect("an earlier moment, whole")
    }

    fn try_with(&self, log: &[u8], what: String) -> End {
        let moment = &self.moments[self.moment_with(log)];
        self.device.begin_again(self.last());
        self.device.disk.write(LOG, log.to_vec());
        Life::new(&self.device, moment, Expected { rows: true, queue: true }, what).live("ada")
    }
}

/// Some transactions, and the disk before the first and after each of them.
pub(crate) fn transactions(device: &Device, user: &str) -> Vec<Image> {
    let replica = device.open().unwrap();
    let driver = drive(&replica, &Tap::new(&device.server, user)).unwrap();
    let mut images = vec![device.disk.image()];
    for n in 0..6 {
        let id = format!("{user}30{n}");
        block_on(driver.write("tasks", &id, values("tasks", &id, &["a"], "made"))).unwrap();
        images.push(device.disk.image());
    }
    device.disk.kill();
    images
}

fn look(device: &Device) -> rusqlite::Result<Look> {
    let db = Connection::open(device.path())?;
    let mut statement = db.prepare("SELECT counter, id FROM dynos_queue NOT INDEXED ORDER BY counter")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

#[test]
fn a_damaged_log_ends_where_it_is_damaged() {
    let logged = Logged::new("log", "ada");
    let frames = (logged.log.len() - HEADER) / FRAME;
    let mut random = fastrand::Rng::with_seed(3);
    let mut tally = Tally::default();
    let mut found = std::collections::BTreeSet::new();
    for frame in 0..frames {
        let start = HEADER + frame * FRAME;
        let mut damaged = vec![
            (logged.log[..start].to_vec(), "cut before"),
            (logged.log[..start + FRAME / 2].to_vec(), "cut within"),
            ([&logged.log[..start], &logged.log[start + FRAME..]].concat(), "missing"),
        ];
        for _ in 0..3 {
            let mut log = logged.log.clone();
            log[start + random.usize(..FRAME)] ^= 1 << random.u32(..8);
            damaged.push((log, "a bit flipped in"));
        }
        for (log, what) in damaged {
            found.insert(logged.moment_with(&log));
            tally.count(|| logged.try_with(&log, format!("{what} frame {frame}")));
        }
    }
    for bit in 0..HEADER * 8 {
        let mut log = logged.log.clone();
        log[bit / 8] ^= 1 << (bit % 8);
        tally.count(|| logged.try_with(&log, format!("bit {bit} of the log's header flipped")));
    }
    tally.assert_unnoticed();
    assert_eq!(found.len(), logged.moments.len() - 1, "each moment but the last was met");
}

#[test]
fn a_log_that_is_missing_or_empty_is_the_moment_before_it() {
    let logged = Logged::new("missing", "ada");
    assert_eq!(logged.moment_with(&[]), 0);
    assert_eq!(logged.try_with(&[], "empty".to_owned()), End::Well);
    logged.device.begin_again(logged.last());
    logged.device.disk.remove(LOG);
    let (moment, expected) = (&logged.moments[0], Expected { rows: true, queue: true });
    assert_eq!(Life::new(&logged.device, moment, expected, "missing".to_owned()).live("ada"), End::Well);
}

/// SQLite compares a log with itself, not with the file beside which it lies.
#[test]
fn the_log_of_another_database_or_of_an_earlier_time_brings_nothing_that_nobody_wrote() {
    let (ada, eve) = (Logged::new("ada", "ada"), Logged::new("eve", "eve"));
    // Ada's goes on: what was in the log is in the file, and there is more.
    ada.device.begin_again(ada.last());
    let replica = ada.device.open().unwrap();
    let driver = drive(&replica, &Tap::new(&ada.device.server, "ada")).unwrap();
    for n in 0..6 {
        let id = format!("ada40{n}");
        block_on(driver.write("tasks", &id, values("tasks", &id, &["a"], "made"))).unwrap();
    }
    block_on(dynos_sync_core::Replica::close(&replica));
    drop((driver, replica));
    let moment = ada.device.moment();
    let mut tally = Tally::default();
    // Or the file is the older one: of before anything was queued.
    ada.device.begin_again(ada.last());
    ada.device.disk.write(DATABASE, ada.device.earlier.clone());
    let expected = Expected { rows: false, queue: false };
    tally.count(|| Life::new(&ada.device, &moment, expected, "an older file".to_owned()).live("ada"));
    for (log, whose) in [(&ada.log, "an earlier"), (&eve.log, "another's")] {
        let ends = (0..=(log.len() - HEADER) / FRAME).map(|frames| HEADER + frames * FRAME);
        for end in ends {
            ada.device.begin_again(&moment);
            ada.device.disk.write(LOG, log[..end].to_vec());
            let what = format!("{whose} log of {end} bytes");
            tally.count(|| Life::new(&ada.device, &moment, expected, what).live("ada"));
        }
    }
    tally.assert();
    assert_eq!(ada.device.disk.names()[0], DATABASE);
}
