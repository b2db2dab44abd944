//! `dynos bench-limit`: a server that does only what a limit needs.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path as Segment, State},
    http::StatusCode,
    routing::{get, post},
};
use futures_util::stream;
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::{net::TcpListener, sync::broadcast};

use super::limit;
use crate::{error::Failure, output::Output};

/// Serves, by its kind: `GET /page/N` from the directory, kept in memory; `POST /rows` into a table, a body a transaction; `POST /tell`, which
/// sends an event to whoever has asked for `GET /listen`.
pub(crate) async fn run(kind: &str, dir: &Path, output: &Output) -> Result<(), Failure> {
    let router = match kind {
        "events" => {
            let route = Router::new().route("/tell", post(tell)).route("/listen", get(listen));
            route.with_state(broadcast::Sender::new(16))
        }
        "rows" => Router::new().route("/rows", post(insert)).with_state(Arc::new(Mutex::new(table(dir)?))),
        _ => Router::new().route("/page/{n}", get(page)).with_state(Arc::new(pages(dir)?)),
    };
    let router = router.layer(axum::extract::DefaultBodyLimit::disable());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    output.result(&json!({"listening": url}), format_args!("{url}\n"))?;
    Ok(axum::serve(listener, router).await?)
}

/// How a page's file is called.
pub(super) fn page_file(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("page-{n}.json"))
}

fn pages(dir: &Path) -> Result<Vec<Bytes>, Failure> {
    let mut pages = Vec::new();
    while let Ok(page) = std::fs::read(page_file(dir, pages.len())) {
        pages.push(page.into());
    }
    Ok(pages)
}

async fn page(State(pages): State<Arc<Vec<Bytes>>>, Segment(n): Segment<usize>) -> Result<Bytes, StatusCode> {
    pages.get(n).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn tell(State(events): State<broadcast::Sender<()>>) {
    // Nobody may be listening.
    let _ = events.send(());
}

async fn listen(State(events): State<broadcast::Sender<()>>) -> Body {
    let told = stream::unfold(events.subscribe(), |mut told| async move {
        told.recv().await.ok()?;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"event\n")), told))
    });
    Body::from_stream(told)
}

fn table(dir: &Path) -> Result<Connection, Failure> {
    let db = limit::open(&dir.join("limit-server.db"), "FULL")?;
    db.execute_batch(
        "DROP TABLE IF EXISTS record; CREATE TABLE record (tbl TEXT, id TEXT, data TEXT, PRIMARY KEY (tbl, id))",
    )?;
    Ok(db)
}

#[derive(Deserialize)]
struct Rows<'a> {
    #[serde(borrow)]
    entries: Vec<Row<'a>>,
}

#[derive(Deserialize)]
struct Row<'a> {
    table: &'a str,
    id: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

async fn insert(State(db): State<Arc<Mutex<Connection>>>, body: Bytes) -> Result<(), StatusCode> {
    let done = tokio::task::spawn_blocking(move || -> Option<()> {
        let rows: Rows<'_> = serde_json::from_slice(&body).ok()?;
        let mut db = db.lock().unwrap_or_else(PoisonError::into_inner);
        let tx = db.transaction().ok()?;
        {
            let sql = "INSERT INTO record (tbl, id, data) VALUES (?, ?, ?)";
            let mut statement = tx.prepare_cached(sql).ok()?;
            for row in rows.entries {
                statement.execute(params![row.table, row.id, row.data.get()]).ok()?;
            }
        }
        tx.commit().ok()
    });
    done.await.ok().flatten().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}
