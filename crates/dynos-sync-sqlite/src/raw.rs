//! [`Raw`]: a row of `dynos_queue`, under its sum.

use dynos_sync_core::{Counter, Cursor, Edit, Entry, Millis, Operation, RecordId};
use rusqlite::{Connection, Row};

use crate::{
    error::{Result, damaged, translate},
    queue::json,
    rows::parse,
    sum::Seal,
    table::Catalog,
    tag::tag,
};

/// The columns in the order in which [`Raw::read`] reads them.
pub(crate) const COLUMNS: &str =
    "counter, tbl, id, op, data, at, sent, base, attempts, retry_at, sum, txn, tag";

pub(crate) fn operation_code(operation: Operation) -> i64 {
    match operation {
        Operation::Upsert => 0,
        Operation::Replace => 1,
        Operation::Patch => 2,
        Operation::Delete => 3,
    }
}

fn operation(code: i64) -> Result<Operation> {
    match code {
        0 => Ok(Operation::Upsert),
        1 => Ok(Operation::Replace),
        2 => Ok(Operation::Patch),
        3 => Ok(Operation::Delete),
        other => Err(damaged("dynos_queue.op", other)),
    }
}

/// A row of the queue, before its parts are checked.
pub(crate) struct Raw {
    pub(crate) counter: i64,
    pub(crate) tbl: i64,
    pub(crate) id: String,
    pub(crate) op: i64,
    pub(crate) data: Option<String>,
    pub(crate) at: Millis,
    pub(crate) sent: bool,
    pub(crate) base: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) retry_at: Option<Millis>,
    pub(crate) sum: i64,
    pub(crate) transaction: Option<i64>,
    pub(crate) tag: i64,
}

impl Raw {
    /// A new entry. Its sum is made where it is stored.
    pub(crate) fn of(counter: Counter, n: i64, id: &RecordId, edit: &Edit, at: Millis) -> Result<Self> {
        Ok(Self {
            counter: counter as i64,
            tbl: n,
            id: id.as_str().to_owned(),
            op: operation_code(edit.operation()),
            data: text(edit)?,
            at,
            sent: false,
            base: None,
            attempts: 0,
            retry_at: None,
            sum: 0,
            transaction: None,
            tag: tag(n, id.as_str()),
        })
    }

    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            counter: row.get(0)?,
            tbl: row.get(1)?,
            id: row.get(2)?,
            op: row.get(3)?,
            data: row.get(4)?,
            at: row.get(5)?,
            sent: row.get(6)?,
            base: row.get(7)?,
            attempts: row.get(8)?,
            retry_at: row.get(9)?,
            sum: row.get(10)?,
            transaction: row.get(11)?,
            tag: row.get(12)?,
        })
    }

    /// The sum of what is sent one day, and of what it was made on top of.
    pub(crate) fn right_sum(&self, seal: Seal) -> i64 {
        let Self { counter, tbl, id, op, data, at, sent, base, transaction, .. } = self;
        let what = seal.sum().int(*counter).int(*tbl).text(id).int(*op).maybe(data.as_deref()).int(*at);
        let what = what.int((*sent).into()).maybe(base.as_deref());
        transaction.map_or(what, |transaction| what.int(transaction)).end()
    }

    pub(crate) fn is_intact(&self, seal: Seal) -> bool {
        self.sum == self.right_sum(seal) && self.tag == tag(self.tbl, &self.id)
    }

    /// The same entry under a number, as one that was never sent.
    pub(crate) fn unsent(self, seal: Seal, counter: i64) -> Self {
        self.changed(seal, |raw| Self { counter, sent: false, base: None, ..raw })
    }

    /// The same entry as a part of a transaction, and as one that was never sent.
    pub(crate) fn within(self, seal: Seal, transaction: i64) -> Self {
        self.changed(seal, |raw| Self { transaction: Some(transaction), sent: false, base: None, ..raw })
    }

    /// A sum that was wrong stays wrong.
    fn changed(self, seal: Seal, change: impl FnOnce(Self) -> Self) -> Self {
        let intact = self.is_intact(seal);
        let mut raw = change(self);
        if intact {
            raw.sum = raw.right_sum(seal);
        }
        raw
    }

    /// `None` for an entry of a table that is gone: it waits until the table is back, or no longer synced.
    pub(crate) fn check(self, catalog: &Catalog) -> Result<Option<Entry>> {
        if !self.is_intact(catalog.seal) {
            return Err(damaged(
                "dynos_queue",
                format_args!("entry {} is not as it was written", self.counter),
            ));
        }
        let Some(table) = catalog.numbered(self.tbl) else { return Ok(None) };
        let id: RecordId = self.id.try_into().map_err(|error| damaged("dynos_queue.id", error))?;
        let fields = self.data.as_deref().map(parse).transpose()?.unwrap_or_default();
        Ok(Some(Entry {
            counter: self.counter as Counter,
            key: table.record(id),
            edit: Edit::new(operation(self.op)?, fields),
            at: self.at,
            sent: self.sent.then(|| sent(self.base)),
            attempts: self.attempts,
            retry_at: self.retry_at,
            transaction: self.transaction.map(|transaction| transaction as Counter),
        }))
    }
}

fn sent(base: Option<String>) -> dynos_sync_core::Sent {
    dynos_sync_core::Sent { base: base.map(Cursor::new) }
}

/// Rows as they stand there, each with its counter: it may be unreadable for itself.
pub(crate) fn raws(
    db: &Connection,
    rest: &str,
    values: impl rusqlite::Params,
) -> Result<Vec<(i64, Result<Raw>)>> {
    let sql = format!("SELECT {COLUMNS} FROM dynos_queue {rest}");
    let mut statement = db.prepare_cached(&sql).map_err(translate)?;
    let mut rows = statement.query(values).map_err(translate)?;
    let mut raws = Vec::new();
    while let Some(row) = rows.next().map_err(translate)? {
        raws.push((row.get(0).map_err(translate)?, Raw::read(row).map_err(translate)));
    }
    Ok(raws)
}

fn text(edit: &Edit) -> Result<Option<String>> {
    edit.fields().map(json).transpose()
}
