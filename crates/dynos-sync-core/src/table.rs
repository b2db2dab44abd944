//! What a table looks like: the part of a schema that devices share.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    entry::Edit,
    error::{Invalid, Limits},
    ids::TableName,
    record::Fields,
};

/// A table as a device declares it and the server keeps it, so that other devices can make the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// The table's name.
    pub name: TableName,
    /// How it keeps its records.
    pub shape: Shape,
}

/// How a table keeps its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Shape {
    /// Any JSON object under a text id.
    Document,
    /// Real columns.
    Columns {
        /// All columns that hold data, in the table's order, those of the key included.
        columns: Vec<Column>,
        /// The primary key's columns, in the key's order.
        key: Vec<String>,
        /// Other unique constraints and indexes, and plain indexes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        indexes: Vec<Index>,
        /// References to other tables.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        foreign_keys: Vec<ForeignKey>,
        /// SQLite: made `WITHOUT ROWID`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        without_rowid: bool,
        /// SQLite: made `STRICT`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        strict: bool,
        /// SQLite: the integer key is `AUTOINCREMENT`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        autoincrement: bool,
    },
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type, as written in SQL; may be empty.
    #[serde(default, rename = "type")]
    pub declared: String,
    /// Whether it refuses null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_null: bool,
    /// Its default, where that is a literal: a number, a quoted text, `NULL`, `CURRENT_TIMESTAMP` and its kin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Its collation, where that is not `BINARY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation: Option<String>,
}

/// An index over plain columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its name; absent where it belongs to a `UNIQUE` constraint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it refuses duplicates.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
    /// Its columns, in order.
    pub columns: Vec<String>,
}

/// A reference to another table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// The referencing columns.
    pub columns: Vec<String>,
    /// The referenced table.
    pub parent: String,
    /// The referenced columns; empty for the parent's primary key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_columns: Vec<String>,
    /// `NO ACTION`, `RESTRICT`, `SET NULL`, `SET DEFAULT` or `CASCADE`.
    pub on_delete: String,
    /// As `on_delete`.
    pub on_update: String,
}

impl TableSpec {
    /// The most columns that a table may have.
    pub const MAX_COLUMNS: usize = 1000;

    /// A document table.
    pub fn document(name: TableName) -> Self {
        Self { name, shape: Shape::Document }
    }

    /// The names of the columns outside the key; `None` for a document table, which takes any field.
    pub fn field_names(&self) -> Option<BTreeSet<&str>> {
        match &self.shape {
            Shape::Document => None,
            Shape::Columns { columns, key, .. } => Some(
                columns
                    .iter()
                    .map(|c| c.name.as_str())
                    .filter(|name| !key.iter().any(|k| k == name))
                    .collect(),
            ),
        }
    }

    /// A record after an edit, on a server: one that the edit makes, or makes anew, has null in the columns that it does not name,
    /// but for those with a default and those that take no null.
    pub fn apply(&self, edit: &Edit, before: Option<Fields>) -> Option<Fields> {
        let is_whole = before.is_none() || matches!(edit, Edit::Replace(_));
        let mut after = edit.apply(before);
        if let (true, Some(record)) = (is_whole, &mut after) {
            self.complete(record);
        }
        after
    }

    /// Has a record that was made by a device with fewer columns say that it has nothing in the others: else those who know them would keep
    /// what an earlier record of this id had there. Columns with a default, and those that take no null, are left out.
    fn complete(&self, record: &mut Fields) {
        let Shape::Columns { columns, key, .. } = &self.shape else { return };
        let is_blank =
            |column: &&Column| !column.not_null && column.default.is_none() && !key.contains(&column.name);
        for column in columns.iter().filter(is_blank) {
            if !record.contains_key(&column.name) {
                record.insert(column.name.clone(), serde_json::Value::Null);
            }
        }
    }

    /// The column of that name; none in a document table.
    pub fn column(&self, name: &str) -> Option<&Column> {
        match &self.shape {
            Shape::Document => None,
            Shape::Columns { columns, .. } => columns.iter().find(|column| column.name == name),
        }
    }

    /// Orders tables so that each comes after those that it refers to, as far as there are no circles.
    pub fn parents_first(mut waiting: Vec<Self>) -> Vec<Self> {
        let mut ordered: Vec<Self> = Vec::new();
        while !waiting.is_empty() {
            let free = |spec: &Self| {
                spec.parents().all(|parent| {
                    let same = |other: &Self| other.name.as_str().eq_ignore_ascii_case(parent);
                    same(spec) || !waiting.iter().any(same)
                })
            };
            let next = waiting.iter().position(free).unwrap_or(0);
            ordered.push(waiting.remove(next));
        }
        ordered
    }

    fn parents(&self) -> impl Iterator<Item = &str> {
        let foreign_keys = match &self.shape {
            Shape::Document => &[][..],
            Shape::Columns { foreign_keys, .. } => foreign_keys,
        };
        foreign_keys.iter().map(|foreign| foreign.parent.as_str())
    }

    /// Checks that the table takes these fields. The key's columns pass: it is for the adapter to compare them
    /// with the id.
    ///
    /// # Errors
    /// [`Invalid`], naming the first field that the table has no column for.
    pub fn check(&self, fields: &Fields) -> Result<(), Invalid> {
        if self.shape == Shape::Document {
            return Ok(());
        }
        match fields.keys().find(|field| self.column(field).is_none()) {
            None => Ok(()),
            Some(field) => {
                Err(Invalid::new(field.clone(), format!("table {} has no such column", self.name))
                    .remedy("add the column, or leave the field out"))
            }
        }
    }

    /// Checks a declaration that came from outside.
    ///
    /// # Errors
    /// [`Invalid`] where it has no key or columns, too many, names one twice, or refers to one that it lacks.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Shape::Columns { columns, key, indexes, foreign_keys, .. } = &self.shape else { return Ok(()) };
        let fault = |field: &str, problem: String| {
            Err(Invalid::new(field, problem).remedy("correct the declaration"))
        };
        if columns.len() > Self::MAX_COLUMNS {
            return fault(
                "columns",
                format!("{} columns, the limit is {}", columns.len(), Self::MAX_COLUMNS),
            );
        }
        let mut names = BTreeSet::new();
        for column in columns {
            if column.name.is_empty()
                || column.name.len() > Limits::TABLE_NAME_BYTES
                || column.name.contains('\0')
            {
                return fault("columns", format!("{:?} is not a column's name", column.name));
            }
            if !names.insert(column.name.to_lowercase()) {
                return fault("columns", format!("column {:?} appears twice", column.name));
            }
        }
        let known = |name: &String| columns.iter().any(|column| column.name == *name);
        if key.is_empty() {
            return fault("key", "the table has no primary key".to_owned());
        }
        let used = key
            .iter()
            .chain(indexes.iter().flat_map(|index| &index.columns))
            .chain(foreign_keys.iter().flat_map(|foreign| &foreign.columns));
        match used.into_iter().find(|name| !known(name)) {
            Some(name) => fault("key", format!("no column is named {name:?}")),
            None => Ok(()),
        }
    }

    /// This declaration joined with one of another device: columns that only the other has are appended.
    /// Nothing is ever taken away, so that an older device cannot remove what a newer one added.
    ///
    /// # Errors
    /// [`Invalid`] where the two cannot be one table: a different key, or a document table against columns.
    pub fn joined(&self, other: &Self) -> Result<Self, Invalid> {
        let mismatch = |problem: &str| {
            Err(Invalid::new("table", format!("{}: {problem}", self.name))
                .remedy("rename one of the two tables, or make them alike"))
        };
        match (&self.shape, &other.shape) {
            (Shape::Document, Shape::Document) => Ok(self.clone()),
            (Shape::Columns { key: ours, .. }, Shape::Columns { key: theirs, columns: more, .. }) => {
                if ours != theirs {
                    return mismatch("its primary key differs from the one that other devices declared");
                }
                let mut joined = self.clone();
                if let Shape::Columns { columns, .. } = &mut joined.shape {
                    let new: Vec<_> =
                        more.iter().filter(|c| !columns.iter().any(|d| d.name == c.name)).cloned().collect();
                    columns.extend(new);
                }
                Ok(joined)
            }
            _ => mismatch("one device keeps documents, another columns"),
        }
    }
}

#[cfg(test)]
mod tests;
