//! Typed records.

use std::{fmt, marker::PhantomData};

use dynos_sync_core::{Fields, Invalid, Shape, TableName, Value};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    engine::SyncEngine,
    error::SyncError,
    query::{LiveQuery, Params, typed},
};

/// A type whose values are a table's records.
///
/// ```
/// use dynos_sync::Record;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Task {
///     id: String,
///     title: String,
///     done: bool,
/// }
///
/// impl Record for Task {
///     const TABLE: &'static str = "tasks";
/// }
/// ```
pub trait Record: Serialize + DeserializeOwned {
    /// The table's name.
    const TABLE: &'static str;

    /// The fields of the key, as serde names them, in the key's order. Their values make the record's id: a text as it is, another
    /// value as JSON; several as a JSON array.
    const KEY: &'static [&'static str] = &["id"];
}

/// A new id: a UUID of version 7, which sorts by the time at which it was made.
///
/// ```
/// let (earlier, later) = (dynos_sync::new_id(), dynos_sync::new_id());
/// assert!(earlier < later);
/// ```
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// The records of a table, as values of a type. Cheap to clone.
///
/// ```
/// # use futures_executor::block_on;
/// # use dynos_sync::{SyncEngine, Record, new_id, fields};
/// # #[derive(serde::Serialize, serde::Deserialize, Clone, Debug, PartialEq)]
/// # struct Task { id: String, title: String, done: bool }
/// # impl Record for Task { const TABLE: &'static str = "tasks"; }
/// # let dir = tempfile::tempdir()?;
/// # let remote = dynos_sync::core::memory::MemoryServer::new().remote("ada");
/// # block_on(async {
/// # let engine = SyncEngine::open(dir.path().join("app.sqlite"), remote)?.record::<Task>().start().await?;
/// let tasks = engine.table::<Task>();
/// let milk = Task { id: new_id(), title: "milk".to_owned(), done: false };
/// tasks.put(&milk).await?;
///
/// tasks.update(&milk.id, |task| task.done = true).await?; // only what has changed is written
/// tasks.patch(&milk.id, &fields([("title", "oat milk".into())])).await?;
///
/// let milk = tasks.get(&milk.id).await?.expect("it was put");
/// assert_eq!((milk.title.as_str(), milk.done), ("oat milk", true));
/// assert_eq!(tasks.all().await?, [milk.clone()]);
/// assert!(tasks.remove(&milk.id).await?);
/// # engine.close().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Table<R> {
    engine: SyncEngine,
    records: PhantomData<fn() -> R>,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone(), records: PhantomData }
    }
}

impl<R: Record> fmt::Debug for Table<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&R::TABLE).finish()
    }
}

impl SyncEngine {
    /// A table's records as values of a type. The table has to be synced.
    pub fn table<R: Record>(&self) -> Table<R> {
        Table { engine: self.clone(), records: PhantomData }
    }
}

impl<R: Record> Table<R> {
    pub(crate) fn engine(&self) -> &SyncEngine {
        &self.engine
    }

    /// Stores a record, whether or not there was one with its id. Fields that serde leaves out stay as they are.
    ///
    /// # Errors
    /// As [`SyncEngine::write`]; [`SyncError::Invalid`] where it has no id, or is no object.
    pub async fn put(&self, record: &R) -> Result<(), SyncError> {
        let (id, data) = parts::<R>(record)?;
        self.engine.write(R::TABLE, &id, data).await
    }

    /// Stores many records in one local transaction: all or none.
    ///
    /// # Errors
    /// As [`put`](Self::put), for the first record that is refused.
    pub async fn put_many<'a>(&self, records: impl IntoIterator<Item = &'a R>) -> Result<(), SyncError>
    where
        R: 'a,
    {
        let records = records.into_iter().map(parts::<R>).collect::<Result<_, _>>()?;
        self.engine.write_many(R::TABLE, records).await
    }

    /// Sets some fields of a record that exists: a type with some of them, or [`Fields`].
    ///
    /// # Errors
    /// As [`SyncEngine::patch`].
    pub async fn patch(&self, id: impl fmt::Display, data: &impl Serialize) -> Result<(), SyncError> {
        self.engine.patch(R::TABLE, &id.to_string(), object(data)?).await
    }

    /// Changes a record that exists, whatever it is at that moment: where somebody else changes it meanwhile, `change` is called
    /// again with what it is then. Only fields that come out different are written, so that others' changes of other fields last.
    /// Answers the record as it was written.
    ///
    /// # Errors
    /// As [`SyncEngine::patch`]; [`SyncError::Mismatch`] where the record is no `R`; [`SyncError::Invalid`] where its id is changed.
    pub async fn update(
        &self,
        id: impl fmt::Display,
        mut change: impl FnMut(&mut R),
    ) -> Result<R, SyncError> {
        let id = id.to_string();
        let mut written = None;
        let edit = |before: Fields| {
            let before = with_key::<R>(before, &id);
            let mut record: R = typed(before.clone(), R::TABLE)?;
            let old = object(&record)?;
            change(&mut record);
            let (new_id, new) = parts::<R>(&record)?;
            if new_id != id {
                return Err(Invalid::new(R::KEY.join(", "), "a record keeps its id")
                    .remedy("put a new record and remove this one")
                    .into());
            }
            written = Some(record);
            Ok(new.into_iter().filter(|(name, value)| old.get(name) != Some(value)).collect())
        };
        self.engine.update(R::TABLE, &id, edit).await?;
        Ok(written.expect("BUG: an update that succeeded has made a record"))
    }

    /// A record, as it is on this device.
    ///
    /// # Errors
    /// As [`SyncEngine::get`]; [`SyncError::Mismatch`] where it is no `R`.
    pub async fn get(&self, id: impl fmt::Display) -> Result<Option<R>, SyncError> {
        let id = id.to_string();
        let found = self.engine.get(R::TABLE, &id).await?;
        found.map(|fields| typed(with_key::<R>(fields, &id), R::TABLE)).transpose()
    }

    /// Deletes a record. Answers whether it was there.
    ///
    /// # Errors
    /// As [`SyncEngine::remove`].
    pub async fn remove(&self, id: impl fmt::Display) -> Result<bool, SyncError> {
        self.engine.remove(R::TABLE, &id.to_string()).await
    }

    /// All records, in no order.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn all(&self) -> Result<Vec<R>, SyncError> {
        self.query("", ()).await
    }

    /// The records that match: `rest` is what stands after `SELECT * FROM` and the table in SQL, such as
    /// `WHERE done = ? ORDER BY title`. In a document table a field is `data ->> 'name'`.
    ///
    /// # Errors
    /// As [`SyncEngine::query`].
    pub async fn query(&self, rest: &str, params: impl Params) -> Result<Vec<R>, SyncError> {
        let documents = self.is_document().await?;
        let rows: Vec<Fields> = self.engine.query(&select::<R>(rest), params).await?;
        rows.into_iter().map(|row| from_row::<R>(row, documents)).collect()
    }

    /// Follows the records that match, as [`SyncEngine::watch`].
    ///
    /// # Errors
    /// As [`SyncEngine::watch`]; [`SyncError::Replica`] where the table is not synced.
    pub async fn watch(&self, rest: &str, params: impl Params) -> Result<LiveQuery<R>, SyncError>
    where
        R: 'static,
    {
        let documents = self.is_document().await?;
        let rows = self.engine.watch::<Fields>(&select::<R>(rest), params)?;
        Ok(rows.map_rows(move |row| from_row::<R>(row, documents)))
    }

    async fn is_document(&self) -> Result<bool, SyncError> {
        let name: TableName = R::TABLE.parse()?;
        Ok(self.engine.table_state(&name).await?.spec.shape == Shape::Document)
    }
}

fn select<R: Record>(rest: &str) -> String {
    format!("SELECT * FROM \"{}\" {rest}", R::TABLE.replace('"', "\"\""))
}

fn from_row<R: Record>(mut row: Fields, document: bool) -> Result<R, SyncError> {
    if !document {
        return typed(row, R::TABLE);
    }
    let id = row.remove("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
    match row.remove("data") {
        Some(Value::Object(data)) => typed(with_key::<R>(data, &id), R::TABLE),
        _ => Err(Invalid::new("query", "the answer has no column `data`")
            .remedy("leave the columns as they are")
            .into()),
    }
}

/// A document holds its id only where it was written so.
fn with_key<R: Record>(mut fields: Fields, id: &str) -> Fields {
    if let [key] = R::KEY
        && !fields.contains_key(*key)
    {
        fields.insert((*key).to_owned(), id.into());
    }
    fields
}

/// A record's id, and its fields.
pub(crate) fn parts<R: Record>(record: &R) -> Result<(String, Fields), SyncError> {
    let data = object(record)?;
    let part = |name: &&str| match data.get(*name) {
        None | Some(Value::Null) => {
            Err(Invalid::new(*name, "a record needs an id").remedy("set it, or name another field in `KEY`"))
        }
        Some(value) => Ok(value.clone()),
    };
    let id = match R::KEY {
        [key] => match part(key)? {
            Value::String(text) => text,
            value => value.to_string(),
        },
        keys => Value::Array(keys.iter().map(part).collect::<Result<_, _>>()?).to_string(),
    };
    Ok((id, data))
}

pub(crate) fn object(data: &impl Serialize) -> Result<Fields, SyncError> {
    let refuse = |problem: String| {
        SyncError::from(Invalid::new("record", problem).remedy("serialize it as an object"))
    };
    match serde_json::to_value(data) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(refuse("not an object".to_owned())),
        Err(error) => Err(refuse(error.to_string())),
    }
}
