//! A synced table as the replica works with it, and all of them.

use std::{collections::HashMap, sync::Arc};

use dynos_sync_core::{
    Edit, Fields, Invalid, RecordId, RecordKey, ReplicaError, Shape, TableName, TableSpec,
    plan::write::guard, replica::TablePolicy,
};
use rusqlite::Connection;

use crate::{
    capture,
    describe::{Description, describe},
    error::{Result, damaged},
    id::KeyShape,
    listing::{self, Listed},
    rows,
    sql::{all, ident, idents, list},
    sum::Seal,
    value::{Affinity, Cell, Reading, to_json},
};

/// A synced table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) n: i64,
    pub(crate) spec: TableSpec,
    pub(crate) policy: TablePolicy,
    /// All columns that hold data, in the table's order.
    pub(crate) columns: Vec<Field>,
    /// Where the key's columns stand in `columns`, in the key's order.
    pub(crate) key: Vec<usize>,
    pub(crate) key_shape: KeyShape,
    pub(crate) document: bool,
    pub(crate) reactive: bool,
    /// The columns that the triggers in place write to the log, in that order.
    pub(crate) captured: Vec<String>,
    pub(crate) description: Description,
    /// Whether the table has changed since its triggers and its declaration were made.
    pub(crate) outdated: bool,
    /// The columns that name a row's owner; none where the device has no user.
    owners: Vec<usize>,
    /// Where each column stands in `columns`.
    places: HashMap<String, usize>,
    /// `SELECT` of all columns by key.
    pub(crate) select: String,
    /// `INSERT` of all columns: those outside the key, then the key's.
    pub(crate) insert: String,
    /// `"a" = ? AND "b" = ?`
    pub(crate) by_key: String,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) reading: Reading,
    pub(crate) affinity: Affinity,
    pub(crate) default: Option<String>,
    pub(crate) in_key: bool,
}

impl Table {
    pub(crate) fn new(n: i64, description: Description, policy: TablePolicy, captured: Vec<String>) -> Self {
        let spec = description.spec.clone();
        let document = spec.shape == Shape::Document;
        let (names, key_names): (Vec<(String, String)>, Vec<String>) = match &spec.shape {
            Shape::Document => {
                (vec![("id".into(), "TEXT".into()), ("data".into(), "TEXT".into())], vec!["id".into()])
            }
            Shape::Columns { columns, key, .. } => {
                (columns.iter().map(|c| (c.name.clone(), c.declared.clone())).collect(), key.clone())
            }
        };
        let field = |((name, declared), default): (&(String, String), Option<String>)| Field {
            in_key: key_names.contains(name),
            name: name.clone(),
            reading: Reading::of(declared),
            affinity: Affinity::of(declared),
            default,
        };
        let defaults = description.defaults.iter().cloned().chain(std::iter::repeat(None));
        let columns: Vec<Field> = names.iter().zip(defaults).map(field).collect();
        let key: Vec<usize> = key_names
            .iter()
            .filter_map(|name| columns.iter().position(|column| column.name == *name))
            .collect();
        let key_shape = match key.as_slice() {
            [only] if columns[*only].affinity == Affinity::Text => KeyShape::Text,
            [_] => KeyShape::Single,
            several => KeyShape::Composite(several.len()),
        };
        let by_key = all(key_names.iter().map(|name| format!("{} = ?", ident(name))));
        let select = format!(
            "SELECT {} FROM {} WHERE {by_key}",
            idents(columns.iter().map(|column| &column.name)),
            ident(spec.name.as_str())
        );
        let insert =
            insert_sql(&spec.name, columns.iter().filter(|c| !c.in_key).map(|c| &c.name).chain(&key_names));
        let places = names
            .iter()
            .enumerate()
            .map(|(place, (name, _))| (name.clone(), place))
            .collect::<HashMap<_, _>>();
        let owner_columns = policy.user.iter().flat_map(|_| &policy.owner_columns);
        let owners = owner_columns.filter_map(|column| places.get(column).copied()).collect();
        let reactive = description.reactive;
        let outdated = columns.iter().map(|column| &column.name).ne(&captured);
        Self {
            n,
            spec,
            policy,
            columns,
            key,
            key_shape,
            document,
            reactive,
            captured,
            description,
            outdated,
            owners,
            places,
            select,
            insert,
            by_key,
        }
    }

    /// The edit that offers a row whole: a server that has more of a document than this device is to have no more. (A row names all of its
    /// columns, and others it does not know.)
    pub(crate) fn whole(&self, row: Fields) -> Edit {
        if self.document { Edit::Replace(row) } else { Edit::Upsert(row) }
    }

    pub(crate) fn name(&self) -> &TableName {
        &self.spec.name
    }

    pub(crate) fn sql_name(&self) -> String {
        ident(self.spec.name.as_str())
    }

    pub(crate) fn record(&self, id: RecordId) -> RecordKey {
        RecordKey { table: self.spec.name.clone(), id }
    }

    /// The values of an id's key.
    ///
    /// # Errors
    /// [`Invalid`] for an id that no key of this table has: another shape, or a value that SQLite would store as
    /// another one, which has an id of its own.
    pub(crate) fn key_of(&self, id: &RecordId) -> Result<Vec<Cell>, Invalid> {
        let key = self.key_shape.decode(id)?;
        let kept = |(place, cell): (&usize, &Cell)| self.columns[*place].affinity.keeps(cell);
        if self.key.iter().zip(&key).all(kept) && self.key_shape.encode(&key).is_ok_and(|own| own == *id) {
            return Ok(key);
        }
        Err(Invalid::new("id", format!("no key of table {} is written like this", self.spec.name))
            .remedy("write the key as the table stores it"))
    }

    /// Where a column stands.
    ///
    /// # Errors
    /// [`Invalid`] where there is none of this name.
    pub(crate) fn place(&self, name: &str) -> Result<usize, Invalid> {
        self.places.get(name).copied().ok_or_else(|| {
            Invalid::new(name, format!("table {} has no such column", self.spec.name))
                .remedy("add the column")
        })
    }

    /// Refuses an edit of a row that names another owner than the device's user.
    pub(crate) fn guard(&self, id: &RecordId, row: Option<&[Cell]>) -> Result<()> {
        let Some(row) = row.filter(|_| self.policy.user.is_some()) else { return Ok(()) };
        let named = match self.document {
            true => rows::record(self, row)?,
            false => self
                .owners
                .iter()
                .map(|place| {
                    let column = &self.columns[*place];
                    (column.name.clone(), to_json(row[*place].as_ref(), column.reading))
                })
                .collect(),
        };
        guard(&self.policy, &self.record(id.clone()), &named)
    }

    /// The columns outside the key.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.columns.iter().filter(|column| !column.in_key)
    }

    /// The names of all columns, as the triggers should write them.
    pub(crate) fn column_names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }
}

/// `INSERT` of these columns.
pub(crate) fn insert_sql<S: AsRef<str>>(table: &TableName, columns: impl Iterator<Item = S>) -> String {
    let columns: Vec<S> = columns.collect();
    let (table, marks) = (ident(table.as_str()), list(columns.iter().map(|_| "?")));
    format!("INSERT INTO {table} ({}) VALUES ({marks})", idents(columns))
}

/// The synced tables of a database, read once and kept until the schema or the list changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    by_name: HashMap<TableName, Arc<Table>>,
    by_number: HashMap<i64, Arc<Table>>,
    /// `PRAGMA schema_version` and `dynos_state.layout` when it was read.
    pub(crate) version: (i64, i64),
    /// What the sums of this session begin with.
    pub(crate) seal: Seal,
    /// Whether the application has no trigger of its own in the file.
    pub(crate) triggers_are_ours: bool,
}

impl Catalog {
    pub(crate) fn read(db: &Connection, seal: Seal, version: (i64, i64)) -> Result<Self> {
        let mut catalog =
            Self { version, seal, triggers_are_ours: capture::is_alone(db)?, ..Self::default() };
        for Listed { n, name, policy, captured, spec, .. } in listing::all(db, seal)? {
            let name: TableName = name.parse().map_err(|error| damaged("dynos_table.name", error))?;
            let policy =
                serde_json::from_str(&policy).map_err(|error| damaged("dynos_table.policy", error))?;
            let captured =
                serde_json::from_str(&captured).map_err(|error| damaged("dynos_table.captured", error))?;
            // A table that was dropped or renamed under us stays listed, but nothing can be done with its rows.
            let description = match describe(db, &name) {
                Err(ReplicaError::Invalid(_)) => None,
                described => described?,
            };
            if let Some(description) = description {
                let declared: TableSpec =
                    serde_json::from_str(&spec).map_err(|error| damaged("dynos_table.spec", error))?;
                let mut table = Table::new(n, description, policy, captured);
                table.outdated |= declared != table.spec || !capture::installed(db, &table)?;
                catalog.insert(table);
            }
        }
        Ok(catalog)
    }

    fn insert(&mut self, table: Table) {
        let table = Arc::new(table);
        self.by_name.insert(table.name().clone(), Arc::clone(&table));
        self.by_number.insert(table.n, table);
    }

    pub(crate) fn named(&self, name: &TableName) -> Result<&Arc<Table>> {
        self.by_name.get(name).ok_or_else(|| ReplicaError::UnknownTable(name.clone()))
    }

    pub(crate) fn numbered(&self, n: i64) -> Option<&Arc<Table>> {
        self.by_number.get(&n)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_number.values()
    }
}
