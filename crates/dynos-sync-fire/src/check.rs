//! What has to be so when the network is calm and everything has synced.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

use crate::{
    journal::Journal,
    link::count,
    process::Process,
    rows::{Rows, contended, difference, own, rows},
    stack::{Fault, Stack, USER},
    writer::open,
};

/// No process may ever have more memory than this, in KiB.
const MEMORY: u64 = 256 * 1024;

/// A database may have so many bytes, and so many more for each conflict of its journal or each outcome that the server keeps.
const FILE: u64 = 16 * 1024 * 1024;
const BYTES_EACH: u64 = 32 * 1024;

/// Waits until all devices are equal and nothing is queued, and checks everything then. The network is calm, and nobody writes.
pub(crate) async fn settled(stack: &mut Stack, within: Duration) -> Result<(), Fault> {
    let start = Instant::now();
    let devices: Vec<Connection> =
        stack.devices.iter().map(|device| open(&device.path)).collect::<Result<_, _>>()?;
    let rows = loop {
        stack.tend(&[])?;
        match agree(&devices)? {
            Ok(rows) => break rows,
            Err(odd) if start.elapsed() > within => {
                return Err(format!("after {within:?} of calm: {odd}").into());
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let journals: Vec<Journal> = stack.devices.iter().map(|device| device.writer.journal()).collect();
    let found = [
        books(&devices)?,
        own(&rows, &journals),
        contended(&rows, &journals),
        server(stack, &rows).await?,
        files(stack)?,
        processes(stack)?,
    ]
    .concat();
    if !found.is_empty() {
        return Err(found.join("\n").into());
    }
    count(&stack.tally, |tally| {
        tally.checks += 1;
        tally.longest_settling = tally.longest_settling.max(start.elapsed());
        tally.transactions = journals.iter().map(|journal| journal.transactions).sum();
        tally.edits = journals.iter().map(|journal| journal.n.unsigned_abs()).sum();
        tally.records = rows.len() as u64;
    });
    tidy(&stack.dir)?;
    Ok(())
}

/// The rows of all devices, if they are equal and wait for nothing; else what is in the way.
fn agree(devices: &[Connection]) -> rusqlite::Result<Result<Rows, String>> {
    for (number, db) in devices.iter().enumerate() {
        let (queued, noted) = (number_of(db, "dynos_queue")?, number_of(db, "dynos_log")?);
        if queued + noted > 0 {
            return Ok(Err(format!("device {number} has {queued} entries and {noted} notes")));
        }
    }
    let rows: Vec<Rows> = devices.iter().map(rows).collect::<Result<_, _>>()?;
    let odd = rows.iter().enumerate().find(|(_, other)| **other != rows[0]);
    Ok(match odd {
        None => Ok(rows.into_iter().next().unwrap_or_default()),
        Some((number, other)) => {
            Err(format!("devices 0 and {number} differ: {}", difference(&rows[0], other)))
        }
    })
}

fn number_of(db: &Connection, table: &str) -> rusqlite::Result<i64> {
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
}

/// Nothing was refused, kept aside or turned back.
fn books(devices: &[Connection]) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    for (number, db) in devices.iter().enumerate() {
        for table in ["dynos_dead", "dynos_quarantine", "backwards"] {
            let rows = number_of(db, table)?;
            if rows > 0 {
                found.push(format!("device {number} has {rows} rows in {table}"));
            }
        }
    }
    Ok(found)
}

/// The server has the same, as a new device sees it; and each of its numbers was given to one entry.
async fn server(stack: &Stack, rows_of_devices: &Rows) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    let clone = stack.file("clone.db");
    let cloned = stack.sync("clone", &clone, 0).output().await?;
    if !cloned.status.success() {
        return Err(format!("the clone failed: {}", String::from_utf8_lossy(&cloned.stderr)).into());
    }
    let there = rows(&Connection::open(&clone)?)?;
    if there != *rows_of_devices {
        found.push(format!("the server differs from the devices: {}", difference(&there, rows_of_devices)));
    }
    for end in ["", "-wal", "-shm"] {
        match fs::remove_file(stack.file(&format!("clone.db{end}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    if stack.postgres.is_none() {
        found.extend(history(&stack.server_file(), stack)?);
    }
    Ok(found)
}

fn history(path: &Path, stack: &Stack) -> rusqlite::Result<Vec<String>> {
    let mut found = Vec::new();
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(Duration::from_secs(10))?;
    let scope = format!("u:{USER}");
    let numbers = "SELECT s.seq, count(DISTINCT o.seq), max(o.seq) FROM scopes s JOIN writers w USING (scope) JOIN outcomes o USING (writer)
                   WHERE s.name = ?1 AND o.seq IS NOT NULL";
    let (seq, outcomes, last): (i64, i64, i64) =
        db.query_row(numbers, [&scope], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if (outcomes, last) != (seq, seq) {
        found.push(format!(
            "the server has numbered {seq} changes for {outcomes} entries, the last one {last}"
        ));
    }
    let writers: i64 = db.query_row("SELECT count(*) FROM writers", [], |row| row.get(0))?;
    if writers != stack.devices.len() as i64 {
        found.push(format!("{} devices are known to the server as {writers} writers", stack.devices.len()));
    }
    let refused: i64 =
        db.query_row("SELECT count(*) FROM outcomes WHERE code IS NOT NULL", [], |row| row.get(0))?;
    if refused > 0 {
        found.push(format!("the server has refused {refused} entries"));
    }
    count(&stack.tally, |tally| tally.applied = seq.unsigned_abs());
    Ok(found)
}

/// Files are whole, and not larger than what they hold can explain.
fn files(stack: &Stack) -> Result<Vec<String>, Fault> {
    let mut found = Vec::new();
    let mut conflicts = 0;
    let mut files: Vec<_> =
        stack.devices.iter().map(|device| ("device", device.path.clone(), "dynos_conflict")).collect();
    if stack.postgres.is_none() {
        files.push(("server", stack.server_file(), "outcomes"));
    }
    for (kind, path, kept) in files {
        let db = Connection::open(&path)?;
        db.busy_timeout(Duration::from_secs(10))?;
        let whole: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if whole != "ok" {
            found.push(format!("{}: {whole}", path.display()));
        }
        let kept = number_of(&db, kept)?.unsigned_abs();
        conflicts += if kind == "device" { kept } else { 0 };
        let bytes = fs::metadata(&path)?.len()
            + fs::metadata(format!("{}-wal", path.display())).map_or(0, |wal| wal.len());
        if bytes > FILE + kept * BYTES_EACH {
            found.push(format!("{} has {bytes} bytes for {kept} things kept", path.display()));
        }
        count(&stack.tally, |tally| tally.file(kind, bytes));
    }
    count(&stack.tally, |tally| tally.conflicts = conflicts);
    Ok(found)
}

/// Nobody has panicked, and nobody has taken too much.
fn processes(stack: &Stack) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let running =
        stack.devices.iter().filter_map(|device| device.process.as_ref()).map(|process| ("device", process));
    let running = running.chain(stack.server.as_ref().map(|process| ("server", process)));
    for (kind, memory) in running.map(|(kind, process)| (kind, Process::most_memory(process))) {
        count(&stack.tally, |tally| tally.memory(kind, memory));
    }
    count(&stack.tally, |tally| {
        let greedy = tally.memory.iter().filter(|(_, kib)| **kib > MEMORY);
        found.extend(greedy.map(|(kind, kib)| format!("a {kind} has had {kib} KiB of memory")));
    });
    for path in logs(&stack.dir)?.iter().filter(|path| path.extension().is_some_and(|end| end == "err")) {
        let text = fs::read(path)?;
        let text = String::from_utf8_lossy(&text);
        if let Some(line) = text.lines().find(|line| line.contains("panicked at") || line.contains("BUG:")) {
            found.push(format!("{}: {line}", path.display()));
        }
    }
    Ok(found)
}

fn logs(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let files: Result<Vec<_>, _> = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let is_log = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "err" || end == "out");
    Ok(files?.into_iter().filter(is_log).collect())
}

/// Empties the logs: what they tell was good.
fn tidy(dir: &Path) -> io::Result<()> {
    logs(dir)?.iter().try_for_each(|path| fs::File::options().write(true).open(path)?.set_len(0))
}
