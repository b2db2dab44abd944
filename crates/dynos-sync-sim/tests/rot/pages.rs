//! Damage to the pages of a file.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::{
    device::{DATABASE, Device, Moment},
    life::{End, Expected, Life, Tally},
};

const PAGE: usize = 512;

/// A closed device, and what each of its pages belongs to.
struct Subject {
    device: Device,
    moment: Moment,
    bytes: Vec<u8>,
    owners: BTreeMap<usize, String>,
}

impl Subject {
    fn new(name: &str) -> Self {
        let device = Device::new(name, "ada");
        let moment = device.moment();
        let bytes = device.disk.read(DATABASE).unwrap();
        let db = Connection::open(device.path()).unwrap();
        let mut statement = db.prepare("SELECT pageno, name FROM dbstat").unwrap();
        let owners = statement.query_map([], |row| Ok((row.get::<_, usize>(0)? - 1, row.get(1)?))).unwrap();
        let owners = owners.collect::<Result<_, _>>().unwrap();
        drop(statement);
        drop(db);
        Self { device, moment, bytes, owners }
    }

    fn pages(&self) -> usize {
        self.bytes.len() / PAGE
    }

    fn owner(&self, page: usize) -> &str {
        self.owners.get(&page).map_or("free", String::as_str)
    }

    /// Whose rows these are: the engine's, or the application's.
    fn is_engines(&self, page: usize) -> bool {
        self.owner(page).starts_with("dynos_") || self.owner(page).starts_with("sqlite_autoindex_dynos")
    }

    /// One life with these bytes in place of the file's.
    fn try_with(&self, bytes: Vec<u8>, rows: bool, what: String) -> End {
        self.device.begin_again(&self.moment);
        self.device.disk.write(DATABASE, bytes);
        Life::new(&self.device, &self.moment, Expected { rows, queue: true }, what).live("ada")
    }

    fn try_page(&self, page: usize, what: &str, change: impl FnOnce(&mut [u8])) -> End {
        let mut bytes = self.bytes.clone();
        change(&mut bytes[page * PAGE..][..PAGE]);
        let what = format!("page {page} ({}), {what}", self.owner(page));
        self.try_with(bytes, self.is_engines(page), what)
    }
}

/// How many times more than usual, or everything.
fn effort() -> Option<usize> {
    match std::env::var("DYNOS_ROT").as_deref() {
        Ok("all") => None,
        Ok(times) => Some(times.parse().expect("DYNOS_ROT is a number, or all")),
        Err(_) => Some(1),
    }
}

#[test]
fn an_undamaged_file_is_used_as_ever() {
    let subject = Subject::new("well");
    assert_eq!(subject.try_with(subject.bytes.clone(), true, "undamaged".to_owned()), End::Well);
    let kinds: std::collections::BTreeSet<&String> = subject.owners.values().collect();
    assert!(subject.pages() > 60 && kinds.len() > 20, "{} pages of {kinds:?}", subject.pages());
}

#[test]
fn flipped_bits() {
    let subject = Subject::new("bits");
    let mut random = fastrand::Rng::with_seed(1);
    let mut tally = Tally::default();
    for page in 0..subject.pages() {
        let all = 0..PAGE * 8;
        let bits: Vec<usize> = match effort() {
            None => all.collect(),
            // A single row means a lot.
            Some(times) if ["dynos_state", "dynos_table"].contains(&subject.owner(page)) => {
                random.choose_multiple(all, 90 * times)
            }
            Some(times) => random.choose_multiple(all, 6 * times),
        };
        for bit in bits {
            let flip = |bytes: &mut [u8]| bytes[bit / 8] ^= 1 << (bit % 8);
            tally.count(|| subject.try_page(page, &format!("bit {bit}"), flip));
        }
    }
    tally.assert();
}

#[test]
fn pages_that_are_zero() {
    let subject = Subject::new("zeros");
    let mut tally = Tally::default();
    for page in 0..subject.pages() {
        tally.count(|| subject.try_page(page, "zero", |bytes| bytes.fill(0)));
        tally.count(|| subject.try_page(page, "half of it zero", |bytes| bytes[PAGE / 2..].fill(0)));
    }
    tally.assert();
}

#[test]
fn pages_in_the_place_of_others() {
    let subject = Subject::new("places");
    let mut random = fastrand::Rng::with_seed(2);
    let mut tally = Tally::default();
    for page in 0..subject.pages() {
        let others = (0..subject.pages()).filter(|other| *other != page);
        let others: Vec<usize> = match effort() {
            None => others.collect(),
            Some(times) => random.choose_multiple(others, 4 * times),
        };
        for other in others {
            let from = &subject.bytes[other * PAGE..][..PAGE];
            let what = format!("page {other} ({}) in its place", subject.owner(other));
            tally.count(|| subject.try_page(page, &what, |bytes| bytes.copy_from_slice(from)));
        }
    }
    tally.assert();
}

/// A write to the disk that was acknowledged and never made.
#[test]
fn pages_of_an_earlier_time() {
    let subject = Subject::new("earlier");
    let mut tally = Tally::default();
    let earlier = &subject.device.earlier;
    for page in 0..subject.pages().min(earlier.len() / PAGE) {
        let old = &earlier[page * PAGE..][..PAGE];
        if subject.bytes[page * PAGE..][..PAGE] != *old {
            tally.count(|| subject.try_page(page, "as it was earlier", |bytes| bytes.copy_from_slice(old)));
        }
    }
    tally.assert();
}

#[test]
fn files_that_end_early() {
    let subject = Subject::new("ends");
    let mut tally = Tally::default();
    for end in (0..subject.bytes.len()).step_by(PAGE / 2).skip(1) {
        let bytes = subject.bytes[..end].to_vec();
        tally.count(|| subject.try_with(bytes, false, format!("cut after {end} bytes")));
    }
    tally.assert();
}
