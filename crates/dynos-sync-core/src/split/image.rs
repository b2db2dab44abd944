//! A replica's state as the texts that a [`QueueStore`](super::QueueStore) keeps, and back.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    stores::{Position, QueueChange},
    text::{EntryText, LetterText, corrupt, number, parse, text},
};
use crate::{
    clock::Millis,
    entry::{Edit, Entry},
    ids::{Counter, Generation, RecordKey, TableName},
    memory::replica::{Pending, Store},
    record::Fields,
    replica::{DeadLetter, ReplicaError, Resolved, TablePolicy, TableState},
    table::TableSpec,
};

/// The key under which a commit leaves what it still has to do, see [`Work`](super::work::Work).
pub(super) const WORK: &str = "work";

/// What a key says. Written out only where its text is to change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name<'a> {
    Replica,
    Tables,
    Base(&'a RecordKey),
    Entry(Counter),
    Letter(i64),
    Conflict(i64),
    Seen(&'a RecordKey),
    Local(&'a RecordKey),
    Former(&'a TableName),
}

/// What is kept under one key. Most of a state is the same before and after a step, and is compared without being
/// written out.
#[derive(PartialEq)]
enum Item<'a> {
    Replica(Numbers),
    Tables(Vec<Table>),
    /// And what it was sent with, where that is something else.
    Entry(&'a Entry, Option<&'a Edit>),
    Base(&'a Option<Fields>),
    Letter(&'a DeadLetter),
    Conflict(&'a Resolved),
    Mark,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Numbers {
    seed: [u8; 16],
    renamed: u64,
    generation: Generation,
    server: Option<String>,
    clock: Millis,
    last_counter: Counter,
    last_sent: Counter,
    #[serde(default)]
    schema: u32,
    last_id: i64,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct Table {
    spec: TableSpec,
    policy: TablePolicy,
    declared: bool,
}

/// What a queue store has to change to get from one state to another.
pub(super) fn difference(before: &Store, after: &Store) -> Result<Vec<QueueChange>, ReplicaError> {
    changes(&image(before), &image(after))
}

/// What a queue store has to take up for a new replica.
pub(super) fn first(store: &Store) -> Result<Vec<QueueChange>, ReplicaError> {
    changes(&BTreeMap::new(), &image(store))
}

type Image<'a> = BTreeMap<Name<'a>, Item<'a>>;

fn changes(before: &Image<'_>, after: &Image<'_>) -> Result<Vec<QueueChange>, ReplicaError> {
    let gone = before.keys().filter(|name| !after.contains_key(name));
    let remove = gone.map(|name| Ok(QueueChange::Remove { key: name.text()? }));
    let new = after.iter().filter(|(name, item)| before.get(name) != Some(item));
    let set = new.map(|(name, item)| Ok(QueueChange::Set { key: name.text()?, value: item.text()? }));
    remove.chain(set).collect()
}

fn image(store: &Store) -> Image<'_> {
    let mut image = BTreeMap::from([
        (Name::Replica, Item::Replica(numbers(store))),
        (Name::Tables, Item::Tables(store.tables.iter().map(table).collect())),
    ]);
    for (key, pending) in &store.queue {
        image.insert(Name::Base(key), Item::Base(&pending.base));
        image.extend(pending.entries.iter().map(|entry| {
            (Name::Entry(entry.counter), Item::Entry(entry, pending.sent_as.get(&entry.counter)))
        }));
    }
    image.extend(store.dead.iter().map(|(id, letter)| (Name::Letter(*id), Item::Letter(letter))));
    image.extend(store.journal.iter().map(|(id, c)| (Name::Conflict(*id), Item::Conflict(c))));
    image.extend(store.seen.iter().map(|key| (Name::Seen(key), Item::Mark)));
    image.extend(store.local.iter().map(|key| (Name::Local(key), Item::Mark)));
    image.extend(store.former.iter().map(|table| (Name::Former(table), Item::Mark)));
    image
}

impl Name<'_> {
    fn text(self) -> Result<String, ReplicaError> {
        Ok(match self {
            Self::Replica => "replica".to_owned(),
            Self::Tables => "tables".to_owned(),
            Self::Base(key) => format!("base/{}", text(key)?),
            Self::Entry(counter) => format!("entry/{counter:020}"),
            Self::Letter(id) => format!("letter/{id:020}"),
            Self::Conflict(id) => format!("conflict/{id:020}"),
            Self::Seen(key) => format!("seen/{}", text(key)?),
            Self::Local(key) => format!("local/{}", text(key)?),
            Self::Former(table) => format!("former/{}", text(table)?),
        })
    }
}

fn numbers(store: &Store) -> Numbers {
    Numbers {
        seed: store.seed,
        renamed: store.renamed,
        generation: store.generation,
        server: store.server.clone(),
        clock: store.clock,
        last_counter: store.last_counter,
        last_sent: store.last_sent,
        schema: store.schema,
        last_id: store.last_id,
    }
}

fn table(table: &TableState) -> Table {
    Table { spec: table.spec.clone(), policy: table.policy.clone(), declared: table.declared }
}

impl Item<'_> {
    fn text(&self) -> Result<String, ReplicaError> {
        match self {
            Self::Replica(numbers) => text(numbers),
            Self::Tables(tables) => text(tables),
            Self::Entry(entry, sent_as) => text(&EntryText::of(entry, *sent_as)),
            Self::Base(base) => text(base),
            Self::Letter(letter) => text(&LetterText::of(letter)),
            Self::Conflict(resolved) => text(resolved),
            Self::Mark => text(&()),
        }
    }
}

/// Puts a state together from what the queue store and the timestamp store have.
pub(super) fn read(
    texts: &BTreeMap<String, String>,
    seed: [u8; 16],
    mut positions: BTreeMap<TableName, Position>,
) -> Result<Store, ReplicaError> {
    let mut store = Store::new(seed);
    let mut entries = Vec::new();
    // In the order of the keys: a record's base comes before its entries, and those in the order of their counters.
    for (key, value) in texts {
        let (kind, name) = key.split_once('/').unwrap_or((key, ""));
        match kind {
            "replica" => parse::<Numbers>(value)?.put(&mut store),
            "tables" => {
                let tables = parse::<Vec<Table>>(value)?.into_iter();
                store.tables = tables.map(|table| table.at(&mut positions)).collect();
            }
            "base" => {
                let pending = Pending { base: parse(value)?, entries: Vec::new(), sent_as: BTreeMap::new() };
                store.queue.insert(parse(name)?, pending);
            }
            "entry" => entries.push(parse::<EntryText>(value)?.entry(number(name)?)),
            "letter" => {
                let id = number(name)?;
                store.dead.insert(id, parse::<LetterText>(value)?.letter(id));
            }
            "conflict" => {
                let id = number(name)?;
                store.journal.insert(id, parse(value)?);
            }
            "seen" => drop(store.seen.insert(parse(name)?)),
            "local" => drop(store.local.insert(parse(name)?)),
            "former" => drop(store.former.insert(parse(name)?)),
            _ => {}
        }
    }
    entries.into_iter().try_for_each(|entry| queue(&mut store, entry))?;
    if store.queue.values().any(|pending| pending.entries.is_empty()) {
        return Err(corrupt("a record without entries"));
    }
    Ok(store)
}

fn queue(store: &mut Store, (entry, sent_as): (Entry, Option<Edit>)) -> Result<(), ReplicaError> {
    let pending =
        store.queue.get_mut(&entry.key).ok_or_else(|| corrupt("an entry without its record's base image"))?;
    if pending.entries.is_empty() {
        store.order.insert(entry.counter, entry.key.clone());
    }
    pending.sent_as.extend(sent_as.map(|edit| (entry.counter, edit)));
    pending.entries.push(entry);
    Ok(())
}

impl Numbers {
    fn put(self, store: &mut Store) {
        (store.seed, store.renamed, store.generation) = (self.seed, self.renamed, self.generation);
        (store.server, store.clock, store.schema) = (self.server, self.clock, self.schema);
        (store.last_counter, store.last_sent, store.last_id) =
            (self.last_counter, self.last_sent, self.last_id);
    }
}

impl Table {
    fn at(self, positions: &mut BTreeMap<TableName, Position>) -> TableState {
        let Position { cursor, ahead, phase, synced_at } =
            positions.remove(&self.spec.name).unwrap_or_default();
        let Self { spec, policy, declared } = self;
        TableState { spec, policy, cursor, ahead, phase, declared, synced_at, gained: BTreeSet::new() }
    }
}
