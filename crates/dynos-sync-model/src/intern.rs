//! Each part of the world is kept once and named by a number, so that a state of the world is a handful of numbers; and
//! what a step does to a part is worked out once.

use std::{
    collections::HashMap,
    fmt::{self, Debug, Write},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// The number of a part in its [`Table`].
pub type Id = u32;

/// Parts of one kind. Two that print alike are the same.
#[derive(Debug)]
pub struct Table<T> {
    values: RwLock<Vec<Arc<T>>>,
    ids: Mutex<HashMap<(u64, u64), Id>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: RwLock::default(), ids: Mutex::default() }
    }
}

impl<T: Debug> Table<T> {
    /// The number of a part.
    pub fn intern(&self, value: T) -> Id {
        let print = Print::of(&value);
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        *ids.entry(print).or_insert_with(|| {
            let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
            values.push(Arc::new(value));
            Id::try_from(values.len() - 1).unwrap_or(Id::MAX)
        })
    }

    /// The part of that number.
    pub fn get(&self, id: Id) -> Arc<T> {
        Arc::clone(&self.values.read().unwrap_or_else(PoisonError::into_inner)[id as usize])
    }
}

/// 128 bits of what a value prints, without the text being kept.
struct Print(DefaultHasher, DefaultHasher);

impl Print {
    fn of(value: &impl Debug) -> (u64, u64) {
        let mut print = Self(DefaultHasher::new(), DefaultHasher::new());
        print.1.write_u8(1);
        let written = write!(print, "{value:?}");
        debug_assert!(written.is_ok(), "writing into a hash does not fail");
        (print.0.finish(), print.1.finish())
    }
}

impl Write for Print {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        self.1.write(text.as_bytes());
        Ok(())
    }
}

type Shard<K, V> = RwLock<HashMap<K, V, BuildHasherDefault<Mix>>>;

/// What was worked out before.
#[derive(Debug)]
pub struct Memo<K, V>(Vec<Shard<K, V>>);

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self((0..64).map(|_| RwLock::default()).collect())
    }
}

impl<K: Hash + Eq, V: Copy> Memo<K, V> {
    /// The value for a key, worked out if it is asked for the first time.
    pub fn get(&self, key: K, work_out: impl FnOnce() -> V) -> V {
        let place = (BuildHasherDefault::<Mix>::default().hash_one(&key) >> 50) as usize % self.0.len();
        let shard = &self.0[place];
        if let Some(value) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return *value;
        }
        let value = work_out();
        shard.write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
        value
    }
}

/// A quick hash of small numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(23) ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}
