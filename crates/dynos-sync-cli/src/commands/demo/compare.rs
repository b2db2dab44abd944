//! Whether all devices and the server have the same.

use std::{collections::BTreeMap, fmt, sync::Arc};

use dynos_sync::core::{Fields, RecordId, Remote, Replica, ReplicaId, TableName, wire::PullRequest};
use rusqlite::{Connection, types::Value};

use super::{device::Device, server::DemoServer};
use crate::{
    database,
    error::{Code, Failure},
    output::Columns,
};

const TABLES: [&str; 3] = ["project", "tag", "task"];

/// What the comparison has found.
pub(super) struct Verdict {
    /// Rows by table.
    pub(super) counts: BTreeMap<&'static str, usize>,
    /// What differs, in words.
    pub(super) differences: Vec<String>,
    devices: usize,
}

impl Verdict {
    pub(super) fn equal(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut columns = Columns::new(["table", "rows", "compared"]);
        for (table, rows) in &self.counts {
            let places = self.devices + 1;
            columns.row([(*table).to_owned(), rows.to_string(), format!("{places} databases")]);
        }
        write!(f, "{columns}")?;
        for difference in self.differences.iter().take(10) {
            writeln!(f, "   {difference}")?;
        }
        let verdict = if self.equal() { "All devices and the server are equal." } else { "They differ." };
        writeln!(f, "\n{verdict}")
    }
}

pub(super) async fn run(devices: &[Device; 3], server: &DemoServer) -> Result<Verdict, Failure> {
    let mut verdict = Verdict { counts: BTreeMap::new(), differences: Vec::new(), devices: devices.len() };
    for table in TABLES {
        let first = rows(&devices[0], table)?;
        for device in &devices[1..] {
            if rows(device, table)? != first {
                verdict.differences.push(format!(
                    "{} differs in {table} from {}",
                    device.name(),
                    devices[0].name()
                ));
            }
        }
        let kept = records(server, table).await?;
        if kept.len() != first.len() {
            verdict.differences.push(format!(
                "the server has {} rows of {table}, not {}",
                kept.len(),
                first.len()
            ));
        }
        for device in devices {
            verdict.differences.extend(against_server(device, table, &kept).await?);
        }
        verdict.counts.insert(table, first.len());
    }
    Ok(verdict)
}

/// A table's rows. Values are equal only if their types are.
fn rows(device: &Device, table: &str) -> Result<Vec<Vec<Value>>, Failure> {
    let db = Connection::open(device.path())?;
    let mut statement = db.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect())?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A table's records as the server has them.
async fn records(server: &DemoServer, table: &str) -> Result<BTreeMap<RecordId, Fields>, Failure> {
    let remote = Arc::new(server.remote()?);
    let table: TableName = table.parse()?;
    let (mut records, mut cursor) = (BTreeMap::new(), None);
    loop {
        let request = PullRequest {
            replica: ReplicaId::from_random([0; 16]),
            table: table.clone(),
            cursor,
            seen: None,
            limit: 1000,
            unsettled: Vec::new(),
            all: true,
        };
        let page = remote.pull(request).await?;
        for change in page.changes {
            match change.record {
                Some(record) => drop(records.insert(change.id, record)),
                None => drop(records.remove(&change.id)),
            }
        }
        if !page.has_more {
            return Ok(records);
        }
        cursor = Some(page.next);
    }
}

async fn against_server(
    device: &Device,
    table: &str,
    kept: &BTreeMap<RecordId, Fields>,
) -> Result<Vec<String>, Failure> {
    let table: TableName = table.parse()?;
    database::with(device.path(), async |replica| {
        if !replica.state().await?.tables.iter().any(|known| known.spec.name == table) {
            return Err(Failure::new(Code::NotTracked, format!("{table} is not synced")));
        }
        let mut differences = Vec::new();
        let ids: Vec<RecordId> = kept.keys().cloned().collect();
        let seen = replica.records(&table, &ids, true).await?;
        let rows: BTreeMap<&RecordId, &Fields> =
            seen.iter().filter_map(|seen| Some((&seen.id, seen.row.as_ref()?))).collect();
        for (id, record) in kept {
            if rows.get(id) != Some(&record) {
                differences.push(format!("{} differs from the server in {table}/{id}", device.name()));
            }
        }
        Ok(differences)
    })
    .await
}
