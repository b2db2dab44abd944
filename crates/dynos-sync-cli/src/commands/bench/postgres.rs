//! Pushing to a server on Postgres.

use bytes::Bytes;
use dynos_sync::sqlite::Synchronous;
use futures_util::{SinkExt, pin_mut};
use rusqlite::types::Value as Cell;
use tokio_postgres::{Client, NoTls};

use super::{
    Case, Shape,
    device::Device,
    failed,
    process::Process,
    pushing,
    record::TABLE,
    sample::{Sample, Watch},
};
use crate::error::{Code, Failure};

/// Rows of which it is measured how long they take one by one.
const ONE_BY_ONE: u64 = 2000;

/// Pushes what is queued into a table of a new database.
pub(super) async fn push(case: &Case) -> Result<Sample, Failure> {
    let path = case.fresh()?;
    std::fs::copy(pushing::queued(case), &path)?;
    let (url, client) = database(case.shape).await?;
    let server = Process::server_on(&case.fresh_dir("server")?, &url)?;
    run(&client, &format!("SELECT dynos_track('{TABLE}', 'user_id')")).await?;
    let device = Device::start(&path, Synchronous::Normal, server.remote()?, |builder| builder).await?;
    let watch = Watch::start();
    let report = device.engine.drain().await?;
    let sample = watch.stop(case.rows);
    device.engine.close().await;
    if report.pushed as u64 != case.rows {
        return Err(failed(&format_args!("{} of {} rows were pushed", report.pushed, case.rows)));
    }
    drop(server);
    Ok(sample.on_disk(&path).remarking(format!("one by one {:.0}/s", one_by_one(case).await?)))
}

/// `COPY` of the same rows into a table of the same columns that nothing syncs.
pub(super) async fn copy(case: &Case) -> Result<Sample, Failure> {
    let (_, client) = database(case.shape).await?;
    let rows: Vec<Bytes> = (0..case.rows).map(|n| line(&case.shape.row(n)).into()).collect();
    let watch = Watch::start();
    let sink = client
        .copy_in::<_, Bytes>(&format!("COPY {TABLE} FROM STDIN"))
        .await
        .map_err(|error| failed(&error))?;
    pin_mut!(sink);
    for row in rows {
        sink.feed(row).await.map_err(|error| failed(&error))?;
    }
    sink.finish().await.map_err(|error| failed(&error))?;
    Ok(watch.stop(case.rows))
}

/// How many rows a second are upserted one by one, by a prepared statement.
async fn one_by_one(case: &Case) -> Result<f64, Failure> {
    let (_, client) = database(case.shape).await?;
    let columns = case.shape.row(0).len();
    let marks: Vec<String> = (1..=columns).map(|n| format!("${n}::text{}", case.shape.cast(n - 1))).collect();
    let sql = format!(
        "INSERT INTO {TABLE} VALUES ({}) ON CONFLICT (id) DO UPDATE SET id = excluded.id",
        marks.join(", ")
    );
    let statement = client.prepare(&sql).await.map_err(|error| failed(&error))?;
    let watch = Watch::start();
    for n in 0..ONE_BY_ONE {
        let row: Vec<Option<String>> = case.shape.row(n).iter().map(text).collect();
        client.execute_raw(&statement, &row).await.map_err(|error| failed(&error))?;
    }
    Ok(watch.stop(ONE_BY_ONE).rate())
}

/// A new database with the table.
async fn database(shape: Shape) -> Result<(String, Client), Failure> {
    let missing = || {
        Failure::new(Code::Usage, "pp needs a Postgres")
            .hint("name one in DYNOS_BENCH_POSTGRES, whose role may make databases")
    };
    let url = std::env::var("DYNOS_BENCH_POSTGRES").map_err(|_| missing())?;
    let (server, rest) = url.rsplit_once('/').ok_or_else(missing)?;
    let options = rest.split_once('?').map_or(String::new(), |(_, options)| format!("?{options}"));
    let name = format!("dynos_bench_{:016x}", getrandom::u64().map_err(|error| failed(&error))?);
    run(&connect(&url).await?, &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")).await?;
    let url = format!("{server}/{name}{options}");
    let client = connect(&url).await?;
    run(&client, &shape.schema().replace("INTEGER", "bigint")).await?;
    Ok((url, client))
}

async fn connect(url: &str) -> Result<Client, Failure> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

async fn run(client: &Client, sql: &str) -> Result<(), Failure> {
    client.batch_execute(sql).await.map_err(|error| failed(&error))
}

/// A row in the text format of `COPY`.
fn line(row: &[Cell]) -> String {
    let escape = |text: String| text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n");
    let cells: Vec<String> =
        row.iter().map(|cell| text(cell).map_or_else(|| "\\N".to_owned(), escape)).collect();
    cells.join("\t") + "\n"
}

fn text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Integer(integer) => Some(integer.to_string()),
        Cell::Text(text) => Some(text.clone()),
        _ => None,
    }
}
